"""Utterances as the packed batches of a Talker's training, and what generation expects of their lengths."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from data_pipelines.batching import BucketedBatches, make_loader
from qomni_jax.config.talker import TalkerConfig
from qomni_jax.config.training import TalkerTrainingConfig
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.talker.batch import BatchShape, Utterance, make_batch, pack, stream_length
from qomni_jax.talker.durations import expected_starts, fit_token_durations
from qomni_jax.talker.interleaver import Interleaver
from qomni_jax.talker.prompt import rate_bucket

_ROUND_TO = 16

Draw = Callable[[int, np.random.Generator], Utterance]


class TalkerBatches:
    """Batches for `training.talker_step`, any of them by its number: the same whatever was read before.

    Utterances are drawn by number, not by length in a scheme's stream: every scheme sees the same in a step.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        draw: Draw,
        max_prompt: int,
        interleaver: Interleaver,
        talker: TalkerConfig,
        training: TalkerTrainingConfig,
    ):
        """`draw(index, rng)` is utterance `index` with the prompt of this time, at most `max_prompt` steps; all that it
        draws, it draws from `rng`."""
        self._draw, self._interleaver, self._training = draw, interleaver, training
        self._indices = range(len(utterances))
        steps = np.array([stream_length(interleaver, u) - len(u.prompt) for u in utterances])  # without the prompt
        length = max(training.row_length, -(-int(steps.max() + max_prompt) // _ROUND_TO) * _ROUND_TO)
        batch_size = training.batch_size
        frames = np.array([len(u.codes) for u in utterances])
        self._batches = BucketedBatches(frames, batch_size, [int(frames.max())], training.seed, pool_batches=1)

        def rows_of(number: int) -> int:
            indices = self._batches[number][0]
            prompts = [len(item.prompt) for item in self._items(indices, self._rng(number))]
            return len(pack(steps[indices] + prompts, length))

        rows = max(rows_of(number) for number in range(training.steps))
        residual_frames = training.residual_frames * batch_size
        self.shape = BatchShape(rows, length, talker.num_codebooks, talker.codebook_size, residual_frames)

    def loader(self, start_step: int) -> Any:
        """An endless iterator over batches from optimiser step `start_step` on."""
        return make_loader(self._indices, self._collate, self._batches, num_workers=0, start_batch=start_step)

    def _collate(self, indices: Sequence[int], pad_length: int, number: int) -> dict[str, np.ndarray]:
        rng = self._rng(number)
        items = self._items(indices, rng)
        return make_batch(items, self._interleaver, self.shape, rng, frame_dropout=self._training.frame_dropout)

    def _items(self, indices: Iterable[int], rng: np.random.Generator) -> list[Utterance]:
        return [self._draw(int(index), rng) for index in indices]

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self._training.seed, 1], counter=[0, 0, 0, number]))


def with_expected_times(item: Utterance, durations: np.ndarray) -> Utterance:
    """The item with the frame at which each text token is expected to start, by the `durations` of all tokens."""
    return item._replace(times=item.times._replace(expected=expected_starts(durations[item.text], len(item.codes))))


def frame_rates(records: Iterable[dict[str, Any]], tokenizer: TextTokenizer) -> list[float]:
    """Mean frames per text token (end-of-text included) at each speaking rate of a prompt; what generation expects."""
    ratios: dict[int, list[float]] = {}
    for record in records:
        ratio = len(record["codes"]) / len(tokenizer.encode(record["text"]))
        ratios.setdefault(rate_bucket(record["rate_wpm"]), []).append(ratio)
    overall = float(np.mean([ratio for values in ratios.values() for ratio in values]))
    return [float(np.mean(ratios.get(bucket, [overall]))) for bucket in range(4)]


def token_durations(records: Sequence[dict[str, Any]], tokenizer: TextTokenizer, rates: Sequence[float]) -> np.ndarray:
    """Expected duration `[vocabulary]` of each text token in mean tokens, from utterances in codes."""
    return fit_token_durations(
        [tokenizer.encode(record["text"]) for record in records],
        [len(record["codes"]) for record in records],
        [rates[rate_bucket(record["rate_wpm"])] for record in records],
        tokenizer.vocab_size,
    )
