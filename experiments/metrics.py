"""Word error rates as fractions, with 95 % bootstrap intervals over sentences, alone and as paired differences."""

from collections.abc import Hashable, Iterable, Sequence
import dataclasses
from typing import Protocol

import numpy as np

SAMPLES = 4000
CONFIDENCE = 0.95
SEED = 0
LONGEST_REPEAT = 8


class Scored(Protocol):
    """A judged sentence: `words` is the length of its reference; the other counts are errors of the best alignment."""

    @property
    def id(self) -> Hashable: ...
    @property
    def words(self) -> int: ...
    @property
    def substitutions(self) -> int: ...
    @property
    def deletions(self) -> int: ...
    @property
    def insertions(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Interval:
    """A rate and its bootstrap interval, all fractions."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def errors(item: Scored) -> int:
    """Substitutions, deletions and insertions together."""
    return item.substitutions + item.deletions + item.insertions


def word_error_rate(items: Iterable[Scored]) -> float:
    """Errors of all sentences over reference words of all sentences, a fraction that insertions can push above 1.

    Raises ValueError where there is no reference word.
    """
    items = list(items)
    words = sum(item.words for item in items)
    if words == 0:
        raise ValueError(
            f"word error rate of {len(items)} sentences with 0 reference words; accepted: at least one word"
        )
    return sum(errors(item) for item in items) / words


def bootstrap_interval(
    items: Iterable[Scored], *, samples: int = SAMPLES, confidence: float = CONFIDENCE, seed: int = SEED
) -> Interval:
    """The word error rate with its percentile bootstrap interval.

    Sentences are drawn with replacement; items of one id (the same sentence under several training seeds) are drawn
    together, because their errors are not independent. Deterministic in `seed`.
    """
    items = list(items)
    mean = word_error_rate(items)
    table = _by_sentence(items)
    weights = _weights(len(table), samples, seed)
    totals = weights @ np.array([table[key] for key in table])
    return _interval(mean, totals[:, 0] / totals[:, 1], confidence)


def bootstrap_mean(
    values: Sequence[float], *, samples: int = SAMPLES, confidence: float = CONFIDENCE, seed: int = SEED
) -> Interval:
    """The mean of independent values with its percentile bootstrap interval. Raises ValueError for no value."""
    if not values:
        raise ValueError("the mean of 0 values; accepted: at least one")
    array = np.asarray(values, np.float64)
    return _interval(float(array.mean()), _weights(len(array), samples, seed) @ array / len(array), confidence)


def paired_difference(
    first: Iterable[Scored],
    second: Iterable[Scored],
    *,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> Interval:
    """Word error rate of `first` less that of `second`, with an interval from drawing the same sentences for both.

    Raises ValueError where the two were not judged on the same sentences.
    """
    first, second = list(first), list(second)
    ours, theirs = _by_sentence(first), _by_sentence(second)
    if unpaired := sorted(map(str, set(ours) ^ set(theirs))):
        raise ValueError(f"sentence {unpaired[0]!r} has no partner; accepted: the same sentences on both sides")
    weights = _weights(len(ours), samples, seed)
    totals = weights @ np.array([(*ours[key], *theirs[key]) for key in ours])
    draws = totals[:, 0] / totals[:, 1] - totals[:, 2] / totals[:, 3]
    return _interval(word_error_rate(first) - word_error_rate(second), draws, confidence)


def repeated_words(hypothesis: Sequence[str], reference: Sequence[str] = ()) -> int:
    """How many words only say again what was said just before: the second copy of an adjacent n-gram, n up to 8.

    Copies that the reference has too are taken off, so a faithful reading of `mike mike` counts 0 and
    `alfa bravo alfa bravo golf` against `alfa bravo golf` counts 2.
    """
    return max(0, _adjacent_copies(hypothesis) - _adjacent_copies(reference))


def _adjacent_copies(words: Sequence[str]) -> int:
    """The most words that second copies of adjacent n-grams can cover without overlapping, found from the end."""
    words = list(words)
    best = [0] * (len(words) + 1)
    for at in range(len(words) - 1, 0, -1):
        lengths = range(1, min(LONGEST_REPEAT, at, len(words) - at) + 1)
        copied = [n + best[at + n] for n in lengths if words[at - n : at] == words[at : at + n]]
        best[at] = max([best[at + 1], *copied])
    return best[min(1, len(words))]


def _by_sentence(items: Sequence[Scored]) -> dict[Hashable, tuple[int, int]]:
    """(errors, words) of each id, summed over its items, in an order that does not depend on that of the items."""
    table: dict[Hashable, tuple[int, int]] = {}
    for item in sorted(items, key=lambda item: str(item.id)):
        wrong, words = table.get(item.id, (0, 0))
        table[item.id] = (wrong + errors(item), words + item.words)
    return table


def _weights(sentences: int, samples: int, seed: int) -> np.ndarray:
    """How often each sentence is drawn in each bootstrap sample: int [samples, sentences]."""
    return np.random.default_rng(seed).multinomial(sentences, np.full(sentences, 1 / sentences), size=samples)


def _interval(mean: float, draws: np.ndarray, confidence: float) -> Interval:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean=float(mean), low=float(low), high=float(high))
