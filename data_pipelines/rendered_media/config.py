"""What rendered pictures and clips show and say, and how many of them there are."""

from collections.abc import Callable
import dataclasses
import re

from data_pipelines.rendered_media.muxing import CONTAINERS
from data_pipelines.shards import SPLIT_NAMES, is_split_name
from data_pipelines.speech_corpus import espeak, voices
from qomni_jax.config.validation import check_types, require, require_one_of, require_positive

SENTENCES = ("nato", "grammar")


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """One split: questions about `pictures` pictures, and then about `clips` clips, up to `questions` about each.

    Questions about one picture or clip are turns of one conversation.
    What splits with `held_out` show and say is in no split without: pairs of colour and shape, written texts and
    sequences of words, spoken sentences. Raises TypeError or ValueError for a field that is not accepted.
    """

    name: str
    pictures: int
    clips: int
    held_out: bool = False
    questions: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        require(is_split_name(self.name), self, "name", SPLIT_NAMES)
        require(self.pictures >= 0, self, "pictures", "0 or more")
        require(self.clips >= 0, self, "clips", "0 or more")
        require_positive(self, "questions")
        require(self.pictures + self.clips > 0, self, "clips", "1 or more where pictures = 0")

    @property
    def records(self) -> int:
        return self.pictures + self.clips


@dataclasses.dataclass(frozen=True)
class RenderedMediaConfig:
    """Pictures and clips: the same config gives the same records.

    Raises TypeError or ValueError for a field that is not accepted.

    Attributes:
      splits: what is rendered.
      side: pixels of a picture or a frame, high and wide; even.
      grids: rows (and columns) of the grids in which shapes are shown.
      max_written_words: words written in a picture, at most.
      min_spoken_words, max_spoken_words: words of a clip's sentence.
      sentences: where sentences come from, written and spoken: `nato`, `grammar` or both (`speech_corpus.grammar`).
      frames_per_second: of clips. What is shown changes at whole seconds.
      min_seconds, max_seconds: of clips; the sentence is spoken somewhere in it, and fits.
      container: `mp4` (H.264 and AAC) or `mkv` (FFV1 and FLAC, lossless).
      voices: of espeak-ng, English ones.
      min_rate, max_rate: nominal words a minute.
      records_per_shard: at most.
      seed: 0 or more.
      version: such as 1.0.0.
    """

    splits: tuple[SplitConfig, ...]
    side: int = 96
    grids: tuple[int, ...] = (2, 3)
    max_written_words: int = 3
    min_spoken_words: int = 2
    max_spoken_words: int = 4
    sentences: tuple[str, ...] = SENTENCES
    frames_per_second: int = 2
    min_seconds: int = 3
    max_seconds: int = 6
    container: str = "mp4"
    voices: tuple[str, ...] = ("en-us+klatt6", "en-us+adam")
    min_rate: int = 140
    max_rate: int = 220
    records_per_shard: int = 250
    seed: int = 0
    version: str = "1.0.0"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        check_types(self)
        names = [split.name for split in self.splits]
        require(bool(names) and len(set(names)) == len(names), self, "splits", "at least one split, each name once")
        require(64 <= self.side <= 1024 and self.side % 2 == 0, self, "side", "an even number of pixels, 64 to 1024")
        require(bool(self.grids) and set(self.grids) <= {2, 3}, self, "grids", "2, 3 or both")
        require_positive(self, "max_written_words", "min_spoken_words", "frames_per_second", "records_per_shard")
        least = f"min_spoken_words = {self.min_spoken_words} to 8"
        require(self.min_spoken_words <= self.max_spoken_words <= 8, self, "max_spoken_words", least)
        require(bool(self.sentences) and set(self.sentences) <= set(SENTENCES), self, "sentences", "nato, grammar")
        require(self.min_seconds >= 2, self, "min_seconds", "2 or more, so that something changes")
        # A word takes up to 0.9 seconds at 120 words a minute.
        longest = max(self.min_seconds, self.max_spoken_words + 1)
        require(self.max_seconds >= longest, self, "max_seconds", f"{longest} or more, with these words")
        require_one_of(self, "container", CONTAINERS)
        require(bool(self.voices), self, "voices", "at least one voice, such as 'en-us+klatt6'")
        for voice in self.voices:
            voices.espeak_voice(voice, "en")
        high = espeak.RATE_RANGE[1]
        require(120 <= self.min_rate <= high, self, "min_rate", f"120 to {high} words a minute")
        require(self.min_rate <= self.max_rate <= high, self, "max_rate", f"min_rate = {self.min_rate} to {high}")
        require(0 <= self.seed < 2**63, self, "seed", "0 to 2**63 - 1")
        require(bool(re.fullmatch(r"\d+\.\d+\.\d+", self.version)), self, "version", "a version such as '1.0.0'")

    def split(self, name: str) -> SplitConfig:
        """The split of this name."""
        return next(split for split in self.splits if split.name == name)

    @classmethod
    def from_dict(cls, fields: dict) -> "RenderedMediaConfig":
        """The inverse of `dataclasses.asdict`, also after a way through JSON."""
        return cls(**{**fields, "splits": tuple(SplitConfig(**split) for split in fields["splits"])})


def demo_media(
    sentences: tuple[str, ...] = SENTENCES,
    side: int = 96,
    grids: tuple[int, ...] = (2, 3),
    max_written_words: int = 3,
    pictures: int = 1600,
    clips: int = 2400,
    questions: int = 1,
) -> RenderedMediaConfig:
    """`pictures` and `clips` to train on, with up to `questions` about each; to test on, one question each, `seen` like
    them and `held_out` with what is not among them."""
    return RenderedMediaConfig(
        side=side,
        grids=grids,
        max_written_words=max_written_words,
        sentences=sentences,
        splits=(
            SplitConfig("train", pictures, clips, questions=questions),
            SplitConfig("seen", pictures=100, clips=300),
            SplitConfig("held_out", pictures=100, clips=300, held_out=True),
        ),
    )


def quick_media() -> RenderedMediaConfig:
    """A tenth of the demo."""
    demo = demo_media()
    splits = [
        dataclasses.replace(split, pictures=split.pictures // 10, clips=split.clips // 10) for split in demo.splits
    ]
    return dataclasses.replace(demo, splits=tuple(splits), records_per_shard=50)


PRESETS: dict[str, Callable[[], RenderedMediaConfig]] = {"demo": demo_media, "quick": quick_media}
