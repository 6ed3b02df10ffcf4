"""Timestamps: to a tenth of a second there and back, where they stand in audio, and times as ids."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from qomni_jax.config.sequence import SequenceConfig, qomni, qwen3_omni
from qomni_jax.sequence.timestamps import (
    audio_timestamps,
    format_timestamp,
    parse_timestamps,
    patch_times,
    regular_patch_times,
    temporal_id,
)


@settings(max_examples=30)
@given(st.lists(st.floats(0, 40_000), max_size=4))
def test_times_go_round_to_a_tenth_of_a_second(times):
    read = parse_timestamps(" and ".join(format_timestamp(time) for time in times))
    # Half of the last digit, and what a double of that size loses.
    np.testing.assert_allclose(read, times, rtol=0, atol=0.05 + 1e-9)


def test_the_format_is_that_of_the_ancestor():
    assert format_timestamp(0.25) == "<0.2 seconds>"
    assert format_timestamp(3661.0) == "<3661.0 seconds>"


def test_a_patch_is_at_the_mean_of_its_first_and_last_frame():
    np.testing.assert_allclose(patch_times([0.0, 0.5, 1.0, 1.5, 2.0]), [0.25, 1.25, 2.0])
    np.testing.assert_allclose(patch_times([0.0, 0.1, 0.3, 0.4, 0.5, 0.9], 3), [0.15, 0.65])
    np.testing.assert_allclose(regular_patch_times(3, 0.5), [0.0, 0.5, 1.0])


def test_times_fall_into_cells_of_160_ms_or_become_fractions():
    cells = [temporal_id(k * 0.16, qomni()) for k in range(100)]
    assert cells == list(range(100))
    assert temporal_id(0.1599, qomni()) == 0
    assert temporal_id(1.5, qwen3_omni()) == 19.5


def test_audio_timestamps_are_regular_at_inference():
    config = SequenceConfig(audio_timestamp_interval=2.0)
    assert audio_timestamps(40, config, None) == [12, 25, 38]  # 12.5 tokens a time, rounded to the even one on ties
    assert audio_timestamps(12, config, None) == []


@settings(max_examples=30)
@given(st.integers(1, 5000), st.integers(0, 1000))
def test_audio_timestamps_are_drawn_from_the_range_in_training(tokens, seed):
    config = SequenceConfig(audio_timestamp_range=(1.0, 3.0))
    drawn = audio_timestamps(tokens, config, np.random.default_rng(seed))
    assert drawn == audio_timestamps(tokens, config, np.random.default_rng(seed))
    gaps = np.diff([0, *drawn]) / config.audio_tokens_per_second
    assert all(0 < token < tokens for token in drawn)
    assert np.all((gaps >= 1.0 - 0.16) & (gaps <= 3.0 + 0.16))  # times are rounded to whole tokens
    assert tokens - (drawn[-1] if drawn else 0) <= 3.16 * config.audio_tokens_per_second


def test_config_errors_name_the_field():
    with pytest.raises(ValueError, match=r"time_encoding = 'text': accepted is one of timestamps, "):
        SequenceConfig(time_encoding="text")
    with pytest.raises(ValueError, match=r"temporal_ids = 'continuous': accepted is grid, with time_encoding"):
        SequenceConfig(temporal_ids="continuous")
    with pytest.raises(ValueError, match=r"audio_timestamp_range = \(3.0, 2.0\)"):
        SequenceConfig(audio_timestamp_range=(3.0, 2.0))
    with pytest.raises(ValueError, match=r"audio_timestamp_interval = 0.1"):
        SequenceConfig(audio_timestamp_interval=0.1)
