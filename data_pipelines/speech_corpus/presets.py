"""Ready-made corpora: `demo` (five hours of English), `quick` (a part of it), `multilingual` (ten languages) and
`voices` (many voices at many rates, pitches and levels)."""

from collections.abc import Callable
import dataclasses

from data_pipelines.speech_corpus.config import CorpusConfig, SplitConfig
from data_pipelines.speech_corpus.variants import HELD_OUT_VARIANTS, TRAINED_VARIANTS
from data_pipelines.speech_corpus.voices import LANGUAGES

# Klatt-synthesis variants: an independent recognizer of the spelling alphabet makes no error on them.
_TRAINED_VOICES = ("en-us+klatt6", "en-us+adam")
_HELD_OUT_VOICES = ("en-us+klatt4", "en-us+klatt")


def demo_corpus() -> CorpusConfig:
    """Five hours of spelling-alphabet English in two voices of one pitch, and five test sets: one like `train`, and
    four outside its range, being two to three times as long, faster, slower, or in other voices."""

    def split(
        name: str, utterances: int, words: tuple[int, int], rates: tuple[int, int], test: bool = True
    ) -> SplitConfig:
        voices = _HELD_OUT_VOICES if name == "test_voice" else _TRAINED_VOICES
        return SplitConfig(name, utterances, *words, *rates, voices, min_pitch=50, max_pitch=50, held_out=test)

    trained = (110, 270)
    return CorpusConfig(
        splits=(
            split("train", 9000, (2, 6), trained, test=False),
            split("train_long", 750, (12, 18), trained, test=False),
            split("test_short", 60, (3, 6), trained),
            split("test_long", 40, (12, 18), trained),
            split("test_fast", 30, (4, 6), (280, 310)),
            split("test_slow", 30, (4, 6), (90, 105)),
            split("test_voice", 30, (3, 6), trained),
        )
    )


def quick_corpus() -> CorpusConfig:
    """The demo corpus with a quarter of the training utterances and a third of the tests."""
    demo = demo_corpus()
    splits = tuple(
        dataclasses.replace(split, utterances=split.utterances // (3 if split.held_out else 4)) for split in demo.splits
    )
    return dataclasses.replace(demo, splits=splits)


def multilingual_corpus() -> CorpusConfig:
    """Ten languages from their grammars, ten voices in each, and tests of other lengths, rates, pitches, voices."""
    trained = tuple(
        "+" + variant for variant in ("klatt6", "adam", "klatt2", "f1", "f2", "m1", "m2", "m3", "f4", "max")
    )
    held_out = ("+klatt4", "+klatt", "+f3", "+m4")
    every = tuple(LANGUAGES)

    def split(
        name: str,
        utterances: int,
        words: tuple[int, int],
        rates: tuple[int, int],
        variants: tuple[str, ...],
        pitches: tuple[int, int] = (25, 75),
        test: bool = True,
    ) -> SplitConfig:
        return SplitConfig(name, utterances, *words, *rates, variants, every, *pitches, held_out=test)

    return CorpusConfig(
        splits=(
            split("train", 20000, (2, 12), (110, 270), trained, test=False),
            split("test_short", 200, (3, 12), (110, 270), trained),
            split("test_long", 100, (24, 36), (110, 270), trained),
            split("test_fast", 100, (4, 12), (280, 310), trained),
            split("test_slow", 100, (4, 12), (90, 105), trained),
            split("test_pitch", 100, (4, 12), (110, 270), trained, pitches=(80, 95)),
            split("test_voice", 100, (4, 12), (110, 270), held_out),
        ),
        source="grammar",
    )


def voices_corpus(utterances: int = 7500) -> CorpusConfig:
    """Five hours of spelling-alphabet English in many voices, rates, pitches and levels.

    Held-out sentences in the voices of `train` (`test_sentences`), and in voices that are in no other split
    (`test_voices`), thirty of each. `utterances` are those of `train`.
    """

    def split(name: str, count: int, variants: tuple[str, ...], test: bool = True) -> SplitConfig:
        return SplitConfig(
            name,
            count,
            *(3 if test else 2, 6),
            *(110, 270),
            tuple(f"en-us+{variant}" for variant in variants),
            min_pitch=20,
            max_pitch=80,
            held_out=test,
            min_level=-30,
            max_level=-18,
        )

    return CorpusConfig(
        splits=(
            split("train", utterances, TRAINED_VARIANTS, test=False),
            split("test_sentences", 8 * len(TRAINED_VARIANTS), TRAINED_VARIANTS),
            split("test_voices", 30 * len(HELD_OUT_VARIANTS), HELD_OUT_VARIANTS),
        )
    )


PRESETS: dict[str, Callable[[], CorpusConfig]] = {
    "demo": demo_corpus,
    "quick": quick_corpus,
    "multilingual": multilingual_corpus,
    "voices": voices_corpus,
}
