"""Utterances in codes as Talker batches."""

from collections.abc import Sequence
import dataclasses
import itertools
from typing import Any

import numpy as np

from data_pipelines.batching import BucketedBatches, make_loader
from data_pipelines.speech_codes.codes import Codes
from qomni_jax.config.talker import TalkerConfig
from qomni_jax.config.training import TalkerTrainingConfig
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.talker.batch import BatchShape, Utterance, make_batch, pack, stream_length
from qomni_jax.talker.durations import expected_starts, fit_token_durations
from qomni_jax.talker.interleaver import Interleaver, TextTimes
from qomni_jax.talker.prompt import encode_prompt, rate_bucket

_ROUND_TO = 16


def to_utterance(record: dict[str, Any], tokenizer: TextTokenizer, frame_rate: float) -> Utterance:
    """A record of the codes dataset (`frame_rate` codec frames a second) as tokens, with the frame at which each text
    token's word starts."""
    text, starts = tokenizer.encode_with_offsets(record["text"])
    words = record["words"]
    word = np.clip(np.searchsorted(words["char_start"], starts, side="right") - 1, 0, None)
    times = np.append(words["start_s"][word[:-1]] * frame_rate, len(record["codes"]))
    prompt = encode_prompt(tokenizer, record["voice"], record["rate_wpm"])
    return Utterance(prompt, text, record["codes"].astype(np.int32), TextTimes(spoken=times))


def frame_rates(codes: Codes, splits: Sequence[str], tokenizer: TextTokenizer) -> list[float]:
    """Mean frames per text token (end-of-text included) at each speaking rate of a prompt; what generation expects."""
    ratios: dict[int, list[float]] = {}
    for split in splits:
        for record in codes.split(split):
            ratio = len(record["codes"]) / len(tokenizer.encode(record["text"]))
            ratios.setdefault(rate_bucket(record["rate_wpm"]), []).append(ratio)
    overall = float(np.mean([ratio for values in ratios.values() for ratio in values]))
    return [float(np.mean(ratios.get(bucket, [overall]))) for bucket in range(4)]


def token_durations(
    codes: Codes, splits: Sequence[str], tokenizer: TextTokenizer, rates: Sequence[float]
) -> np.ndarray:
    """Expected duration `[vocabulary]` of each text token in mean tokens, from the utterances of `splits`."""
    records = [record for split in splits for record in codes.split(split)]
    return fit_token_durations(
        [tokenizer.encode(record["text"]) for record in records],
        [len(record["codes"]) for record in records],
        [rates[rate_bucket(record["rate_wpm"])] for record in records],
        tokenizer.vocab_size,
    )


@dataclasses.dataclass
class TalkerData:
    """The training data of one arm: the same utterances in the same order whatever the scheme."""

    codes: Codes
    splits: tuple[str, ...]
    tokenizer: TextTokenizer
    interleaver: Interleaver
    talker: TalkerConfig
    training: TalkerTrainingConfig
    frame_rate: float  # codec frames a second
    durations: np.ndarray  # of each text token, as `token_durations` gives them

    def __post_init__(self) -> None:
        records = itertools.chain.from_iterable(self.codes.split(split) for split in self.splits)
        self.utterances = [self._with_expected_times(to_utterance(r, self.tokenizer, self.frame_rate)) for r in records]
        sizes = np.array([stream_length(self.interleaver, u) for u in self.utterances])
        length = max(self.training.row_length, -(-int(sizes.max()) // _ROUND_TO) * _ROUND_TO)
        # Drawn by number, not by length in this scheme's stream: every scheme sees the same utterances in a step.
        batch_size, seed = self.training.batch_size, self.training.seed
        frames = np.array([len(u.codes) for u in self.utterances])
        self.batches = BucketedBatches(frames, batch_size, [int(frames.max())], seed, pool_batches=1)
        rows = max(len(pack(sizes[self.batches[step][0]], length)) for step in range(self.training.steps))
        residual_frames = self.training.residual_frames * batch_size
        self.shape = BatchShape(rows, length, self.talker.num_codebooks, self.talker.codebook_size, residual_frames)

    def _with_expected_times(self, item: Utterance) -> Utterance:
        starts = expected_starts(self.durations[item.text], len(item.codes))
        return item._replace(times=item.times._replace(expected=starts))

    def loader(self, start_step: int) -> Any:
        """An endless iterator over batches from optimiser step `start_step` on."""
        return make_loader(self.utterances, self._collate, self.batches, num_workers=0, start_batch=start_step)

    def _collate(self, items: list[Utterance], pad_length: int, index: int) -> dict[str, np.ndarray]:
        rng = np.random.Generator(np.random.Philox(key=[self.training.seed, 1], counter=[0, 0, 0, index]))
        unknown = rng.random(len(items)) < self.training.voice_dropout
        no_voice = np.int32(self.tokenizer.special("<|voice|>"))
        items = [
            item._replace(prompt=np.array([no_voice, item.prompt[1]])) if hide else item
            for item, hide in zip(items, unknown, strict=True)
        ]
        return make_batch(items, self.interleaver, self.shape, rng, frame_dropout=self.training.frame_dropout)


def word_of_token(record: dict[str, Any], tokenizer: TextTokenizer) -> list[int]:
    """The word (its index in the text) of each text token but end-of-text, `[T - 1]`."""
    text = record["text"]
    _, starts = tokenizer.encode_with_offsets(text)
    word_starts = [0] + [index + 1 for index, letter in enumerate(text) if letter == " "]
    return [int(word) for word in np.searchsorted(word_starts, starts[:-1], side="right") - 1]
