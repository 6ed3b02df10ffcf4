"""Rates and intervals: by hand where a hand can, and by what an interval must do elsewhere."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
import pytest

from experiments.metrics import (
    bootstrap_interval,
    bootstrap_mean,
    paired_difference,
    repeated_words,
    word_error_rate,
)


@dataclasses.dataclass(frozen=True)
class Sentence:
    id: str
    words: int
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0


def sentences(errors: list[int], words: int = 4) -> list[Sentence]:
    return [Sentence(f"s{index}", words, substitutions=count) for index, count in enumerate(errors)]


def test_word_error_rate_pools_words_and_counts_all_kinds():
    assert word_error_rate([Sentence("a", 3, 1, 1, 1), Sentence("b", 7)]) == 0.3
    with pytest.raises(ValueError, match="0 reference words"):
        word_error_rate([])


def test_interval_holds_the_rate_and_narrows_with_more_sentences():
    few, many = bootstrap_interval(sentences([0, 1] * 10)), bootstrap_interval(sentences([0, 1] * 250))
    assert few.mean == many.mean == 1 / 8
    assert few.low < 1 / 8 < few.high
    assert many.high - many.low < (few.high - few.low) / 3
    # The normal approximation: 1.96 * sd / sqrt(n), sd = 1/8; 10 % for the noise of 4,000 draws.
    assert many.high - many.low == pytest.approx(2 * 1.96 / 8 / 500**0.5, rel=0.1)


def test_interval_is_the_same_every_time_and_in_any_order():
    items = sentences([0, 1, 2, 0, 3])
    assert bootstrap_interval(items) == bootstrap_interval(items[::-1])


def test_seeds_of_one_sentence_are_drawn_together():
    items = sentences([0, 1] * 10)
    assert bootstrap_interval(items + items) == bootstrap_interval(items)


def test_paired_difference_is_narrower_than_the_intervals_when_sentences_agree():
    hard, harder = sentences([0, 1, 2, 3] * 8), sentences([1, 2, 3, 4] * 8)
    difference = paired_difference(harder, hard)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.25, 0.25, 0.25))
    assert difference.excludes_zero
    assert not paired_difference(hard, hard).excludes_zero


def test_paired_difference_refuses_other_sentences():
    with pytest.raises(ValueError, match="sentence 's2' has no partner"):
        paired_difference(sentences([0, 0]), sentences([0, 0, 0]))


@pytest.mark.parametrize(
    ("hypothesis", "reference", "count"),
    [
        ("", "alpha", 0),
        ("alpha bravo", "alpha bravo", 0),
        ("alpha alpha alpha", "alpha", 2),
        ("mike mike", "mike mike", 0),
        ("alpha bravo alpha bravo golf", "alpha bravo golf", 2),
        ("alpha bravo golf alpha", "alpha bravo golf", 0),
        ("alpha mike mike mike", "alpha mike mike", 1),
    ],
)
def test_repeats_are_adjacent_copies_that_the_reference_has_not(hypothesis, reference, count):
    assert repeated_words(hypothesis.split(), reference.split()) == count


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 8))
def test_saying_a_whole_sentence_again_counts_its_words(words, span):
    words = words[:span]
    assert repeated_words([*words, *words]) >= len(words)


def test_the_mean_of_values_has_an_interval_as_wide_as_their_spread_makes_it():
    share = bootstrap_mean([1.0] * 30 + [0.0] * 10)
    assert share.mean == 0.75
    # 1.96 standard deviations of a share of 40.
    assert share.high - share.low == pytest.approx(2 * 1.96 * (0.75 * 0.25 / 40) ** 0.5, rel=0.15)
    assert bootstrap_mean([0.5]).low == 0.5
    with pytest.raises(ValueError, match="0 values"):
        bootstrap_mean([])
