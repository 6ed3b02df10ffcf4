"""Utterances of a speech corpus as conversations: a recording, a request, and what is said in it and when."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from qomni_jax.audio.features import encoder_features
from qomni_jax.config.audio import AudioEncoderConfig, AudioFeatureConfig
from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.config.validation import check_types, require
from qomni_jax.sequence.assembly import assemble
from qomni_jax.sequence.chat import Audio, Text, Turn
from qomni_jax.sequence.example import Example
from qomni_jax.sequence.media_sizes import audio_size
from qomni_jax.sequence.timestamps import format_timestamp, parse_timestamped_words
from qomni_jax.sequence.tokenizer import TokenizerProtocol

# A word that is cut is still said where this share of it is left; seconds by which a cut misses the start of a word, at
# most; and the least that a cut leaves.
_HEARD_SHARE, _MISS, _LEAST = 0.8, 0.06, 0.4


@dataclasses.dataclass(frozen=True)
class TranscriptionConfig:
    """What is asked of a recording, and how recordings are varied in training.

    Attributes:
      request: the question.
      timestamps: whether the answer has the time at which each word starts.
      placed_rate: share of recordings that begin after silence.
      cropped_rate: share of recordings that are cut: at about the start of some word, and anywhere after it. The answer
        has the words of which most is left. What transcribes long recordings window by window sees such pieces.
    """

    request: str = "What is said, and when?"
    timestamps: bool = True
    placed_rate: float = 0.25
    cropped_rate: float = 0.5

    def __post_init__(self) -> None:
        check_types(self)
        for field in ("placed_rate", "cropped_rate"):
            require(0 <= getattr(self, field) <= 1, self, field, "a number in 0..1")


class Spoken(NamedTuple):
    """Words of an utterance and when each starts, in seconds."""

    words: list[str]
    starts: list[float]


def spoken(record: dict[str, Any], start: float = 0.0, end: float = math.inf) -> Spoken:
    """What a corpus record says between two times, which need not lie in it, and when after the first of them."""
    marks = record["words"]
    said = Spoken([], [])
    for first, last, begins, ends in zip(
        marks["char_start"], marks["char_end"], marks["start_s"], marks["end_s"], strict=True
    ):
        if min(ends, end) - max(begins, start) >= _HEARD_SHARE * (ends - begins):
            said.words.append(record["text"][first:last])
            said.starts.append(max(float(begins) - start, 0.0))
    return said


def write_answer(said: Spoken, config: TranscriptionConfig) -> str:
    """`<0.1 seconds> alfa <0.6 seconds> bravo`, or the words alone."""
    if not config.timestamps:
        return " ".join(said.words)
    return " ".join(f"{format_timestamp(at)} {word}" for word, at in zip(*said, strict=True))


def read_answer(text: str) -> Spoken:
    """The inverse of `write_answer` for what a model has written; a word without a time has that of the word before."""
    return Spoken(*parse_timestamped_words(text))


@dataclasses.dataclass(frozen=True)
class TranscriptionReader:
    """Records of a speech corpus as training examples, or as prompts.

    Attributes:
      tokenizer, features, audio, sequence: as in `conversations.ReadingConfig`.
      config: what is asked.
    """

    tokenizer: TokenizerProtocol
    features: AudioFeatureConfig
    audio: AudioEncoderConfig
    sequence: SequenceConfig
    config: TranscriptionConfig

    def prompt(self, audio: np.ndarray) -> Example:
        """A recording, samples `[n]`, and the request, ready for a reply."""
        return self._example(audio, [self._asked()], reply=True)

    def example(self, record: dict[str, Any], rng: np.random.Generator, frames: int) -> Example:
        """The whole conversation and the transcript's tokens; the recording has at most `frames` feature frames.

        `rng` draws where it is cut, how much silence comes before it, and the timestamps in the audio. A recording that
        is longer than `frames` is always cut.
        """
        rate, most = self.features.sample_rate, frames * self.features.hop_size
        audio = np.asarray(record["audio"])
        start, end = 0, len(audio)
        if len(audio) > most or rng.random() < self.config.cropped_rate:
            start, end = _cut(record, rng, rate, most)
        room = most - (end - start)
        lead = int(rng.integers(room + 1)) if rng.random() < self.config.placed_rate else 0
        said = spoken(record, (start - lead) / rate, end / rate)
        turns = [self._asked(), Turn("assistant", (Text(write_answer(said, self.config)),))]
        audio = np.concatenate([np.zeros(lead, audio.dtype), audio[start:end]])
        example = self._example(audio, turns, rng=rng)
        return example._replace(transcripts=[self.tokenizer.encode_text(" ".join(said.words))])

    def transcript(self, record: dict[str, Any]) -> np.ndarray:
        """Tokens `[n]` of what is said in all of a recording, without times."""
        return self.tokenizer.encode_text(record["text"])

    def _asked(self) -> Turn:
        return Turn("user", (Audio(), Text(self.config.request)))

    def _example(
        self, audio: np.ndarray, turns: list[Turn], *, rng: np.random.Generator | None = None, reply: bool = False
    ) -> Example:
        size = audio_size(len(audio), self.features.num_frames, self.audio.num_tokens)
        sequence = assemble(turns, [size], self.tokenizer, self.sequence, rng=rng, reply=reply)
        return Example(sequence, recordings=[encoder_features(audio, self.features)])


def _cut(record: dict[str, Any], rng: np.random.Generator, rate: int, most: int) -> tuple[int, int]:
    """The first sample of a piece, and the one after its last; at most `most` of them."""
    starts, length = record["words"]["start_s"], len(record["audio"])
    at = float(starts[rng.integers(len(starts))]) + rng.uniform(-_MISS, _MISS)
    start = int(np.clip(at * rate, 0, max(length - _LEAST * rate, 0)))
    end = rng.uniform(start + _LEAST * rate, start + most) if rng.random() < 0.5 else start + most
    return start, int(min(end, length))
