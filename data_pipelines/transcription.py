"""Utterances of a speech corpus as conversations: a recording, a request, and what is said in it and when."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from qomni_jax.audio.features import encoder_features
from qomni_jax.config.audio import AudioEncoderConfig, AudioFeatureConfig
from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.config.validation import check_types
from qomni_jax.sequence.assembly import assemble
from qomni_jax.sequence.chat import Audio, Text, Turn
from qomni_jax.sequence.example import Example
from qomni_jax.sequence.media_sizes import audio_size
from qomni_jax.sequence.timestamps import format_timestamp, parse_timestamped_words
from qomni_jax.sequence.tokenizer import TokenizerProtocol


@dataclasses.dataclass(frozen=True)
class TranscriptionConfig:
    """What is asked of a recording, and whether the answer has the time at which each word starts."""

    request: str = "What is said, and when?"
    timestamps: bool = True

    def __post_init__(self) -> None:
        check_types(self)


class Spoken(NamedTuple):
    """Words of an utterance and when each starts, in seconds."""

    words: list[str]
    starts: list[float]


def spoken(record: dict[str, Any], later: float = 0.0) -> Spoken:
    """What a corpus record says, `later` seconds after the recording's start."""
    marks = record["words"]
    words = [record["text"][a:b] for a, b in zip(marks["char_start"], marks["char_end"], strict=True)]
    return Spoken(words, [float(start) + later for start in marks["start_s"]])


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

    def prompt(self, record: dict[str, Any]) -> Example:
        """The recording and the request, ready for a reply."""
        return self._example(record["audio"], [self._asked()], reply=True)

    def example(self, record: dict[str, Any], rng: np.random.Generator, *, frames: int, placed_rate: float) -> Example:
        """The whole conversation and the transcript's tokens.

        With a chance of `placed_rate` the speech begins at a random time, after silence, within `frames` feature
        frames; `rng` draws that and the timestamps in the audio.
        """
        audio = np.asarray(record["audio"])
        room = max(frames * self.features.hop_size - len(audio), 0)
        lead = int(rng.integers(room + 1)) if rng.random() < placed_rate else 0
        said = spoken(record, lead / self.features.sample_rate)
        answer = Turn("assistant", (Text(write_answer(said, self.config)),))
        audio = np.concatenate([np.zeros(lead, audio.dtype), audio])
        example = self._example(audio, [self._asked(), answer], rng=rng)
        return example._replace(transcripts=[self.transcript(record)])

    def transcript(self, record: dict[str, Any]) -> np.ndarray:
        """Tokens `[n]` of what is said, without times."""
        return self.tokenizer.encode_text(record["text"])

    def _asked(self) -> Turn:
        return Turn("user", (Audio(), Text(self.config.request)))

    def _example(
        self, audio: np.ndarray, turns: list[Turn], *, rng: np.random.Generator | None = None, reply: bool = False
    ) -> Example:
        size = audio_size(len(audio), self.features.num_frames, self.audio.num_tokens)
        sequence = assemble(turns, [size], self.tokenizer, self.sequence, rng=rng, reply=reply)
        return Example(sequence, recordings=[encoder_features(audio, self.features)])
