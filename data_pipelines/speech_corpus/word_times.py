"""When each word and phoneme of a text sounds, from the events that espeak-ng gives while it speaks."""

from collections.abc import Iterable, Sequence
import dataclasses
import itertools
import re

import numpy as np

_PAUSES = frozenset({"_", "_:", "_::", "_!", "_|", "_^"})
_WORD = re.compile(r"\S*[^\W_]")  # from a position up to the last letter or digit before a space


@dataclasses.dataclass(frozen=True)
class Words:
    """The W spoken words of a text, in order: `text[char_start:char_end]` sounds from `start_s` to `end_s` (seconds).

    A word is what espeak-ng reads as one, up to the next one or a space: in Chinese a character or a dictionary word.
    """

    char_start: np.ndarray  # int32 [W]
    char_end: np.ndarray  # int32 [W]
    start_s: np.ndarray  # float32 [W]
    end_s: np.ndarray  # float32 [W]


@dataclasses.dataclass(frozen=True)
class Phonemes:
    """The P phonemes of an utterance in espeak-ng's mnemonics (`'` marks stress, `_:` a pause), with their starts."""

    symbols: tuple[str, ...]
    start_s: np.ndarray  # float32 [P], seconds


def phoneme_times(events: Iterable[tuple[str, int]], rate: int) -> Phonemes:
    """Phonemes from (symbol, sample) events at `rate` Hz, without the marks of a change of language."""
    kept = [(symbol, sample) for symbol, sample in events if symbol and not symbol.startswith("(")]
    return Phonemes(tuple(symbol for symbol, _ in kept), np.array([at / rate for _, at in kept], np.float32))


def word_times(
    text: str,
    word_events: Sequence[tuple[int, int]],
    phoneme_events: Sequence[tuple[str, int]],
    rate: int,
    samples: int,
) -> Words:
    """Words from (character, sample) and (symbol, sample) events of `samples` samples at `rate` Hz."""
    starts = _fill_in(text, _increasing(text, word_events), [sample for _, sample in phoneme_events], samples)
    words = []
    for (char_start, sample), (next_char, limit) in itertools.pairwise([*starts, (len(text), samples)]):
        # A word ends with its last sounding phoneme: a pause before the next word belongs to neither.
        end = limit
        for symbol, at in reversed([event for event in phoneme_events if sample < event[1] <= limit]):
            if symbol not in _PAUSES:
                break
            end = at
        run = _WORD.match(text, char_start, next_char)
        words.append((char_start, run.end() if run else next_char, sample / rate, end / rate))
    char_starts, char_ends, starts_s, ends_s = zip(*words, strict=True)
    return Words(
        np.array(char_starts, np.int32),
        np.array(char_ends, np.int32),
        np.array(starts_s, np.float32),
        np.array(ends_s, np.float32),
    )


def _increasing(text: str, events: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    # espeak-ng may repeat a position (Japanese) or point at the space before a word (after a full stop).
    starts: list[tuple[int, int]] = []
    for position, sample in events:
        char = next((at for at in range(max(position, 0), len(text)) if not text[at].isspace()), len(text))
        if char < len(text) and (not starts or char > starts[-1][0]):
            starts.append((char, max(sample, starts[-1][1] if starts else 0)))
    return starts


def _fill_in(text: str, starts: list[tuple[int, int]], phonemes: list[int], samples: int) -> list[tuple[int, int]]:
    # Some words between spaces have no event (Korean ones that begin with a nasal): they share the time up to the next
    # event with the word before them, by their characters, from the start of a phoneme on.
    filled: list[tuple[int, int]] = []
    words = [match.span() for match in _WORD.finditer(text)]
    known = [char for char, _ in starts]
    silent = [start for start, end in words if not any(start <= char < end for char in known)]
    for (char, sample), (next_char, limit) in itertools.pairwise([(-1, 0), *starts, (len(text), samples)]):
        group = [start for start in silent if char < start < next_char]
        group = [char, *group] if char >= 0 else group
        characters = [b - a for a, b in itertools.pairwise([*group, next_char])]
        inside = [at for at in phonemes if sample < at < limit]
        for index, start in enumerate(group):
            at = sample + (limit - sample) * sum(characters[:index]) / max(sum(characters), 1)
            distances = [abs(phoneme - at) for phoneme in inside]
            nearest = inside[distances.index(min(distances))] if inside else round(at)
            filled.append((start, nearest if index else sample))
    return filled
