"""What a speech corpus holds, and its splits."""

import dataclasses
import re
from typing import Any

from data_pipelines.shards import SPLIT_NAMES, is_split_name
from data_pipelines.speech_corpus import espeak, voices
from qomni_jax.config.validation import check_types, require, require_one_of, require_positive

SOURCES = ("nato", "grammar", "text")
LEVEL_RANGE = (-50, -15)  # dB of full scale: louder speech would be clipped


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """One split: `utterances` sentences of `min_words` to `max_words` words at `min_rate` to `max_rate` words a minute.

    Language, voice (see `voices`), rate, pitch (0 to 99) and length are drawn uniformly for each utterance, and so is
    its level (root mean square, in dB of full scale) where the split has levels; other recordings are as loud as the
    voice is. The sentences of splits with `held_out` occur in no split without. Raises TypeError or ValueError for a
    field that is not accepted.
    """

    name: str
    utterances: int
    min_words: int
    max_words: int
    min_rate: int
    max_rate: int
    voices: tuple[str, ...]
    languages: tuple[str, ...] = ("en",)
    min_pitch: int = 35
    max_pitch: int = 65
    held_out: bool = False
    min_level: int | None = None
    max_level: int | None = None

    def __post_init__(self):
        _make_tuples(self)
        check_types(self)
        require(is_split_name(self.name), self, "name", SPLIT_NAMES)
        require_positive(self, "utterances", "min_words")
        require(self.max_words >= self.min_words, self, "max_words", f"at least min_words = {self.min_words}")
        low, high = espeak.RATE_RANGE
        require(low <= self.min_rate <= high, self, "min_rate", f"{low} to {high} words a minute")
        require(self.min_rate <= self.max_rate <= high, self, "max_rate", f"min_rate = {self.min_rate} to {high}")
        low, high = espeak.PITCH_RANGE
        require(low <= self.min_pitch <= high, self, "min_pitch", f"{low} to {high}")
        require(self.min_pitch <= self.max_pitch <= high, self, "max_pitch", f"min_pitch = {self.min_pitch} to {high}")
        if self.min_level is not None or self.max_level is not None:
            low, high = LEVEL_RANGE
            lowest = self.min_level if self.min_level is not None else high + 1
            require(low <= lowest <= high, self, "min_level", f"{low} to {high} dB, or None like max_level")
            highest = self.max_level if self.max_level is not None else high + 1
            require(lowest <= highest <= high, self, "max_level", f"min_level = {lowest} to {high} dB")
        require(bool(self.languages), self, "languages", f"some of {', '.join(voices.LANGUAGES)}")
        require(bool(self.voices), self, "voices", "at least one voice, such as 'en-us+klatt6'")
        for language in self.languages:
            voices.check_language(language)
        for voice in self.voices:
            voices.check_voice(voice)
            spoken = any(voices.speaks(voice, language) for language in self.languages)
            require(spoken, self, "voices", f"voices that speak one of languages = {self.languages}")
        for language in self.languages:
            spoken = any(voices.speaks(voice, language) for voice in self.voices)
            require(spoken, self, "languages", f"languages that one of voices = {self.voices} speaks")


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """A corpus of spoken sentences: the same config gives the same bytes.

    `source` is where sentences come from: `nato` (the 26 words of the spelling alphabet, English), `grammar` (a small
    grammar in each of ten languages) or `text` (the lines of `text_files`, each given as `LANGUAGE=PATH`).
    Raises TypeError or ValueError for a field that is not accepted.
    """

    splits: tuple[SplitConfig, ...]
    source: str = "nato"
    text_files: tuple[str, ...] = ()
    sample_rate: int = 16000  # Hz
    utterances_per_shard: int = 500
    seed: int = 0
    version: str = "1.0.0"

    def __post_init__(self):
        _make_tuples(self)
        check_types(self)
        names = [split.name for split in self.splits]
        require(bool(names) and len(set(names)) == len(names), self, "splits", "at least one split, each name once")
        levels = {split.min_level is not None for split in self.splits}
        require(len(levels) == 1, self, "splits", "splits that all have levels, or none of them")
        require_one_of(self, "source", SOURCES)
        rates = ", ".join(map(str, espeak.SAMPLE_RATES))
        require(self.sample_rate in espeak.SAMPLE_RATES, self, "sample_rate", f"one of {rates} Hz")
        require_positive(self, "utterances_per_shard")
        require(0 <= self.seed < 2**63, self, "seed", "0 to 2**63 - 1")
        require(bool(re.fullmatch(r"\d+\.\d+\.\d+", self.version)), self, "version", "a version such as '1.0.0'")
        spoken = {language for split in self.splits for language in split.languages}
        require(self.source != "nato" or spoken == {"en"}, self, "source", "'grammar' or 'text' for languages but 'en'")
        written = set()
        for entry in self.text_files:
            language, _, path = entry.partition("=")
            require(language in voices.LANGUAGES and bool(path), self, "text_files", "entries such as 'en=lines.txt'")
            written.add(language)
        texts = spoken if self.source == "text" else set()
        expected = (
            f"one LANGUAGE=PATH or more for each of {', '.join(sorted(texts))}" if texts else "() with this source"
        )
        require(written == texts, self, "text_files", expected)

    @property
    def has_levels(self) -> bool:
        """Whether the level of recordings is drawn, and part of a record."""
        return self.splits[0].min_level is not None

    def as_dict(self) -> dict[str, Any]:
        """The fields, nested; those of levels only where there are levels."""
        fields = dataclasses.asdict(self)
        if not self.has_levels:
            for split in fields["splits"]:
                del split["min_level"], split["max_level"]
        return fields

    @classmethod
    def from_dict(cls, fields: dict) -> "CorpusConfig":
        """The inverse of `as_dict`, also after a way through JSON."""
        return cls(**{**fields, "splits": tuple(SplitConfig(**split) for split in fields["splits"])})


def _make_tuples(config) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, list):
            object.__setattr__(config, field.name, tuple(value))
