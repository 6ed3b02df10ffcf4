"""Conversations of shards as the `Example`s of a model: one by one, and as a shuffled stream by grain."""

from collections.abc import Sequence
import dataclasses

import grain
import numpy as np

from data_pipelines.batching import iterate
from data_pipelines.conversation_shards.schema import ConversationRecord
from data_pipelines.conversations import ReadingConfig, read_conversation
from qomni_jax.sequence.example import Example
from qomni_jax.sequence.tokenizer import TokenizerProtocol


class Examples(Sequence):
    """The examples of a source of records, read when they are asked for, timestamps of audio at regular intervals.

    A data source for grain as its records are: picklable where the tokenizer is. Reading raises as `read_conversation`.
    """

    def __init__(self, records: Sequence[ConversationRecord], tokenizer: TokenizerProtocol, reading: ReadingConfig):
        self._records, self._tokenizer, self._reading = records, tokenizer, reading

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        return read_conversation(self._records[index].turns, self._tokenizer, self._reading)


@dataclasses.dataclass(frozen=True)
class _Read(grain.transforms.RandomMap):
    tokenizer: TokenizerProtocol
    reading: ReadingConfig

    def random_map(self, element: ConversationRecord, rng: np.random.Generator) -> Example:
        return read_conversation(element.turns, self.tokenizer, self.reading, rng=rng)


def training_examples(
    records: Sequence[ConversationRecord],
    tokenizer: TokenizerProtocol,
    reading: ReadingConfig,
    *,
    seed: int,
    num_workers: int = 0,
    epochs: int | None = None,
) -> grain.DatasetIterator:
    """An iterator over the `Example`s of `records`, each once an epoch in an order of its own; endless if `epochs` is
    None. Intervals of audio timestamps are drawn anew each time, from `seed` and the position alone.

    `num_workers`, `get_state`, `set_state` and `close` are as those of `batching.make_loader`. Raises as
    `read_conversation`, and ValueError for numbers that are not accepted.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed = {seed!r}: accepted is 0 to 2**32 - 1")
    if epochs is not None and epochs < 1:
        raise ValueError(f"epochs = {epochs!r}: accepted is a number greater than 0, or None")
    dataset = grain.MapDataset.source(records).seed(seed).shuffle().repeat(epochs)
    return iterate(dataset.random_map(_Read(tokenizer, reading)), num_workers)
