"""What each utterance of a corpus says, in which voice and how fast: drawn from seed, split and index alone."""

import dataclasses
import functools
import hashlib
import pathlib

import numpy as np

from data_pipelines.speech_corpus import voices
from data_pipelines.speech_corpus.config import CorpusConfig, SplitConfig
from data_pipelines.speech_corpus.grammar import grammar_sentence, nato_sentence

_HELD_OUT_OF_256 = 32  # one sentence in eight is for splits with `held_out`, and for no other
_ATTEMPTS = 1000
_UNSPACED_LANGUAGES = frozenset({"zh", "ja"})  # their words are counted by character when a line has no spaces


@dataclasses.dataclass(frozen=True)
class Utterance:
    """An utterance before it is spoken. `voice` is the full espeak-ng name, `pitch` 0 to 99; `level` in dB of full
    scale, None: as loud as the voice is."""

    id: str
    text: str
    language: str
    voice: str
    rate_wpm: int
    pitch: int
    level: int | None = None


def is_held_out(text: str) -> bool:
    """Whether a sentence belongs to held-out splits; a property of the sentence alone, so no corpus can mix them up."""
    return hashlib.sha256(text.encode()).digest()[0] < _HELD_OUT_OF_256


def item_generator(seed: int, split: str, index: int) -> np.random.Generator:
    """Random numbers for item `index` of a split, the same whatever is drawn for others."""
    return np.random.Generator(np.random.Philox(key=[seed, _key(split)], counter=[0, 0, 0, index]))


def draw_sentence(
    rng: np.random.Generator, source: str, language: str, words: tuple[int, int], held_out: bool
) -> str | None:
    """A sentence of `words` (least, most) of the source `nato` or `grammar`; None if too few are of the wanted kind."""
    for _ in range(_ATTEMPTS):
        count = int(rng.integers(words[0], words[1] + 1))
        sentence = nato_sentence(rng, count) if source == "nato" else grammar_sentence(rng, language, count)
        if is_held_out(sentence) == held_out:
            return sentence
    return None


def draw_utterance(config: CorpusConfig, split: SplitConfig, index: int) -> Utterance:
    """Utterance `index` of `split`. Raises ValueError if the source has no sentence of the split's lengths and kind."""
    rng = item_generator(config.seed, split.name, index)
    language = split.languages[rng.integers(len(split.languages))]
    able = [voice for voice in split.voices if voices.speaks(voice, language)]
    voice = able[rng.integers(len(able))]
    rate = int(rng.integers(split.min_rate, split.max_rate + 1))
    pitch = int(rng.integers(split.min_pitch, split.max_pitch + 1))
    text = _draw_sentence(config, split, language, rng)
    level = None
    if split.min_level is not None and split.max_level is not None:
        level = int(rng.integers(split.min_level, split.max_level + 1))
    return Utterance(
        id=f"{split.name}-{index:06d}",
        text=text,
        language=language,
        voice=voices.espeak_voice(voice, language),
        rate_wpm=rate,
        pitch=pitch,
        level=level,
    )


def read_sentences(path: str) -> tuple[str, ...]:
    """The sentences of a text file: one a line, UTF-8, white space joined, blank lines and repetitions left out.

    Raises ValueError naming a file that is missing, unreadable, not text, or without a sentence.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"text file {path!r}: {error.strerror}; accepted is a readable file") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"text file {path!r} is not UTF-8 at byte {error.start}; accepted is UTF-8 text") from error
    if any(ord(character) < 32 and character not in "\t\n\r\f\v" for character in text):
        raise ValueError(f"text file {path!r} holds control characters; accepted is UTF-8 text, one sentence a line")
    sentences = tuple(dict.fromkeys(" ".join(line.split()) for line in text.splitlines() if line.strip()))
    if not sentences:
        raise ValueError(f"text file {path!r} has no sentence; accepted is UTF-8 text, one sentence a line")
    return sentences


def _draw_sentence(config: CorpusConfig, split: SplitConfig, language: str, rng: np.random.Generator) -> str:
    if config.source == "text":
        pool = _text_pool(config.text_files, language, split.min_words, split.max_words, split.held_out)
        return pool[rng.integers(len(pool))]
    sentence = draw_sentence(rng, config.source, language, (split.min_words, split.max_words), split.held_out)
    if sentence is not None:
        return sentence
    raise ValueError(
        f"split {split.name!r} wants {_kind(split.held_out)} of {split.min_words} to {split.max_words} words, of which "
        f"the {config.source} source has too few in {language!r}: accepted are longer sentences"
    )


@functools.cache
def _text_pool(
    text_files: tuple[str, ...], language: str, min_words: int, max_words: int, held_out: bool
) -> tuple[str, ...]:
    paths = [entry.partition("=")[2] for entry in text_files if entry.partition("=")[0] == language]
    pool = tuple(
        sentence
        for path in paths
        for sentence in read_sentences(path)
        if min_words <= count_words(sentence, language) <= max_words and is_held_out(sentence) == held_out
    )
    if not pool:
        raise ValueError(
            f"text files {', '.join(map(repr, paths))} have no {_kind(held_out)} of {min_words} to {max_words} words; "
            "accepted are files with more sentences (one in eight is held out) or other lengths"
        )
    return pool


def count_words(sentence: str, language: str) -> int:
    """Words of a sentence by its spaces; characters where the language writes none."""
    words = sentence.split()
    return len(sentence) if language in _UNSPACED_LANGUAGES and len(words) == 1 else len(words)


def _kind(held_out: bool) -> str:
    return "held-out sentences" if held_out else "sentences for training"


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
