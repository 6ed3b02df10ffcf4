"""Runaway speech is stopped for a stated reason, never before its text has been read, and plausible speech never is."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from qomni_jax.config.runaway import RunawayConfig
from qomni_jax.inference.runaway import SpeechWatch

RATE, TEXT_FRAMES = 10.0, 7
CONFIG = RunawayConfig(
    repetition_seconds=2.0, longest_loop_seconds=1.0, silence_seconds=1.5, seconds_per_token=0.5, spare_seconds=1.0
)
LOUD, QUIET = np.full(30, 0.1), np.full(30, 0.001)


def stopped(frames, sounds=None, *, text_frames: int = TEXT_FRAMES, tokens: int = 100):
    """The number of frames after which the watch stops, and why; the text ends after `text_frames`."""
    watch = SpeechWatch(CONFIG, RATE)
    for number, code in enumerate(frames):
        if number == text_frames:
            watch.end_of_text(tokens)
        watch.frame(np.array([code, number]))
        if sounds is not None:
            watch.sound(sounds[number])
        if watch.reason:
            return number + 1, watch.reason
    return None


@pytest.mark.parametrize("period", [1, 3, 7, 10])
def test_a_loop_is_stopped_after_two_seconds_and_three_rounds_from_the_end_of_the_text(period):
    frames = [n % period for n in range(100)]
    assert stopped(frames) == (TEXT_FRAMES + max(20, 3 * period), "repetition")
    frames = [*range(100, 150), *frames]
    assert stopped(frames) == (50 + max(20, 3 * period), "repetition")


def test_a_loop_that_changes_or_is_longer_than_a_second_goes_on():
    assert stopped([n % 19 for n in range(200)], tokens=1000) is None
    assert stopped([n // 19 for n in range(200)], tokens=1000) is None


def test_silence_is_stopped_after_a_second_and_a_half_from_the_end_of_the_text():
    frames = range(100)
    assert stopped(frames, [QUIET] * 100) == (TEXT_FRAMES + 15, "silence")
    assert stopped(frames, [LOUD] * 50 + [QUIET] * 50) == (65, "silence")
    assert stopped(frames, ([QUIET] * 14 + [LOUD]) * 6 + [LOUD] * 10) is None
    assert stopped(frames, [QUIET[:0]] * 100) is None


def test_the_budget_is_that_of_the_tokens_and_leaves_time_after_the_text():
    frames = range(400)
    assert stopped(frames, tokens=4) == (30, "budget")
    assert stopped(frames, tokens=4, text_frames=100) == (110, "budget")


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=120), st.integers(0, 150), st.integers(1, 3))
def test_nothing_is_stopped_before_its_text_is_read(frames, text_frames, tokens):
    found = stopped(frames, [QUIET] * len(frames), text_frames=text_frames, tokens=tokens)
    assert found is None or found[0] >= text_frames + min(15, 20, 10)


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [("repetitions", 1, "2 or more"), ("silence_level", 3.0, "below 0"), ("silence_seconds", 0.0, "greater than 0")],
)
def test_what_is_not_accepted_is_named(field, value, accepted):
    with pytest.raises(ValueError, match=rf"{field} = {value}: accepted is .*{accepted}"):
        RunawayConfig(**{field: value})
