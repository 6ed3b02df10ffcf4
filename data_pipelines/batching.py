"""Length-bucketed batches, shuffled by a seed alone, and the grain loader that serves them."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

from absl import flags
import grain
import numpy as np

# A loader never ends; grain wants a length.
_ENDLESS = 2**60
_BATCH_ORDER = 2**32 - 1  # the Philox stream for the order of batches; bucket numbers are the others


class BucketedBatches:
    """Batches of examples of similar length: item `i` is `(indices, pad_length)`, for any `i` from 0 on.

    Epoch `i // batches_per_epoch` visits every example at most once, in an order of its own. `pad_length` is one of
    `boundaries` and no less than any length in the batch. What a bucket has left over joins the next longer one, so
    fewer than `batch_size` examples are missed in an epoch, other ones each time.
    """

    def __init__(
        self, lengths: np.ndarray, batch_size: int, boundaries: Sequence[int], seed: int, pool_batches: int = 16
    ):
        """`lengths` is int [examples]; `boundaries` are increasing.

        Within pools of `pool_batches` batches examples are sorted by length: like with like, yet shuffled. 1 leaves
        batches as they are drawn, for rows that are packed rather than padded.

        Raises ValueError for fewer examples than a batch, boundaries that do not increase, a length above the last one.
        """
        self._lengths = np.asarray(lengths)
        self._boundaries = np.asarray(boundaries)
        self._batch_size, self._seed = batch_size, seed
        self._pool_batches = pool_batches
        if pool_batches < 1:
            raise ValueError(f"pool_batches = {pool_batches!r}: accepted is a number greater than 0")
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size!r}: accepted is a number greater than 0")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed = {seed!r}: accepted is 0 to 2**64 - 1")
        if self._lengths.ndim != 1 or len(self._lengths) < batch_size:
            raise ValueError(
                f"lengths has shape {self._lengths.shape}: accepted is [examples], at least batch_size = {batch_size}"
            )
        if not len(self._boundaries) or np.any(np.diff(self._boundaries) <= 0):
            raise ValueError(f"boundaries = {tuple(boundaries)!r}: accepted is one number or more, increasing")
        if self._lengths.max() > self._boundaries[-1]:
            raise ValueError(
                f"boundaries end at {self._boundaries[-1]}: accepted is {self._lengths.max()}, the longest, or more"
            )
        buckets = np.searchsorted(self._boundaries, self._lengths, side="left")
        self._members = [np.flatnonzero(buckets == bucket) for bucket in range(len(self._boundaries))]
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None

    @property
    def batches_per_epoch(self) -> int:
        return len(self._lengths) // self._batch_size

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index < 0:
            raise IndexError(f"batch {index}: accepted is 0 or more")
        epoch, batch = divmod(int(index), self.batches_per_epoch)
        cached = self._epoch  # read once: threads share it
        if cached is None or cached[0] != epoch:
            cached = self._epoch = (epoch, *self._arrange(epoch))
        return cached[1][batch], int(cached[2][batch])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_epoch": None}

    def _arrange(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        batches, pad_lengths = [], []
        left = np.array([], np.int64)
        for bucket, members in enumerate(self._members):
            shuffled = self._generator(epoch, bucket).permutation(np.concatenate([left, members]))
            whole = len(shuffled) // self._batch_size * self._batch_size
            left = shuffled[whole:]
            pool = self._pool_batches * self._batch_size
            for start in range(0, whole, pool):
                part = shuffled[start : min(start + pool, whole)]
                part = part[np.argsort(self._lengths[part], kind="stable")]
                batches.append(part.reshape(-1, self._batch_size))
            pad_lengths.extend([self._boundaries[bucket]] * (whole // self._batch_size))
        order = self._generator(epoch, _BATCH_ORDER).permutation(len(pad_lengths))
        return np.concatenate(batches)[order], np.array(pad_lengths)[order]

    def _generator(self, epoch: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self._seed, stream], counter=[0, 0, 0, epoch]))


@dataclasses.dataclass(frozen=True)
class _LoadBatch(grain.transforms.Map):
    source: Sequence[Any]
    batches: BucketedBatches
    collate_fn: Callable[[list[Any], int, int], dict[str, np.ndarray]]

    def map(self, element: int) -> dict[str, np.ndarray]:
        index = int(element)
        indices, pad_length = self.batches[index]
        return self.collate_fn([self.source[int(i)] for i in indices], pad_length, index)


def _own_memory(value: Any) -> Any:
    # Arrays come from workers in shared memory, which an element that is kept would hold on to.
    if isinstance(value, np.ndarray):
        return np.array(value, subok=False)
    if isinstance(value, dict):
        return {name: _own_memory(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        items = [_own_memory(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def iterate(dataset: grain.MapDataset, num_workers: int) -> grain.DatasetIterator:
    """An iterator over `dataset`, whose `num_workers` processes read ahead (0: threads of this one).

    The elements are the same for any number. Raises ValueError for a negative one.
    """
    if num_workers < 0:
        raise ValueError(f"num_workers = {num_workers!r}: accepted is 0 or more")
    loaded = dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8))
    if num_workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain reads flags of its own when it starts workers; the defaults will do
        loaded = loaded.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=2))
        loaded = loaded.map(_own_memory)
    return iter(loaded)


def make_loader(
    source: Sequence[Any],
    collate_fn: Callable[[list[Any], int, int], dict[str, np.ndarray]],
    batches: BucketedBatches,
    num_workers: int,
    start_batch: int = 0,
) -> grain.DatasetIterator:
    """An endless iterator over `collate_fn(records, pad_length, batch_index)` for `batches` from `start_batch` on.

    `num_workers` processes read ahead (0: threads of this one); the batches are the same for any number. When it is not
    0, `source` and `collate_fn` have to be picklable, and a script guarded by `if __name__ == "__main__"`.
    `get_state` and `set_state` save and restore the position between
    iterators with the same `num_workers` and `start_batch`; with another number, start from a batch index.
    `close` ends the threads and workers. Raises ValueError for a negative number.
    """
    if start_batch < 0:
        raise ValueError(f"start_batch = {start_batch!r}: accepted is 0 or more")
    dataset = grain.MapDataset.range(start_batch, _ENDLESS).map(_LoadBatch(source, batches, collate_fn))
    return iterate(dataset, num_workers)
