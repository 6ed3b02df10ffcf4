"""Rate, pitch, level and likeness of signals that are known."""

import numpy as np
import pytest

from experiments.judge import HeardWord
from experiments.voice.measures import (
    equal_error_rate,
    level_db,
    median_pitch,
    share_less_similar,
    words_per_minute,
)

TIME = np.arange(16_000) / 16_000


@pytest.mark.parametrize("frequency", [80.0, 150.0, 310.0])
def test_the_pitch_of_a_voiced_sound_whatever_its_level(frequency):
    sound = sum(np.sin(2 * np.pi * frequency * k * TIME) / k for k in range(1, 6))
    sound = np.concatenate([np.zeros(4000), sound]).astype(np.float32)
    assert median_pitch(0.1 * sound, 16_000) == pytest.approx(frequency, rel=0.02)
    assert median_pitch(0.003 * sound, 16_000) == pytest.approx(frequency, rel=0.02)


def test_silence_has_no_pitch_and_no_rate():
    assert np.isnan(median_pitch(np.zeros(8000, np.float32), 16_000))
    assert np.isnan(words_per_minute([]))
    assert np.isnan(words_per_minute([HeardWord("alpha", 0.1, 0.5)]))
    assert np.isnan(level_db(np.zeros(0, np.float32)))


def test_rate_and_level_in_their_units():
    heard = [HeardWord("alpha", 0.5, 1.0), HeardWord("bravo", 1.0, 1.5), HeardWord("golf", 1.5, 2.0)]
    assert words_per_minute(heard) == pytest.approx(120)
    assert level_db(np.full(100, 0.1, np.float32)) == pytest.approx(-20, abs=1e-4)


def test_the_equal_error_rate_of_separate_and_of_mixed_pairs():
    assert equal_error_rate(np.array([0.8, 0.9]), np.array([0.1, 0.2, 0.3])) == 0.0
    rng = np.random.default_rng(0)
    alike = rng.standard_normal((2, 4000))
    assert equal_error_rate(alike[0], alike[1]) == pytest.approx(0.5, abs=0.03)
    assert equal_error_rate(alike[0] + 2, alike[1]) == pytest.approx(0.159, abs=0.02)  # one deviation off the middle


def test_the_share_of_other_voices_that_are_less_similar():
    own = np.array([1.0, 0.0])
    others = np.array([[0.0, 1.0], [0.6, 0.8], [-1.0, 0.0], [0.8, 0.6]])
    assert share_less_similar(np.array([1.0, 0.0]), own, others) == 1.0
    assert share_less_similar(np.array([0.6, 0.8]), own, others) == 0.25
