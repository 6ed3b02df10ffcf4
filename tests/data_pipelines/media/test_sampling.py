"""Frames are sampled as the ancestors do, an even number, whatever the frame rate."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.media.sampling import FrameSampling, nearest, sample_times

SAMPLING = FrameSampling()


@given(
    frames=st.integers(1, 4000),
    rate=st.sampled_from([1.0, 10.0, 24.0, 25.0, 30.0, 60.0]),
    fps=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
)
def test_even_number_within_the_limits(frames, rate, fps):
    sampling = FrameSampling(fps, 4, 64)
    times = sample_times(frames / rate, frames, sampling)
    assert len(times) % 2 == 0
    assert len(times) == len(set(times)) or (times[-1] == times[-2] and len(times) == len(set(times)) + 1)
    count = len(set(times))
    assert count <= min(frames, 64)
    assert count >= min(frames, 4)
    if 4 < count < min(frames, 64):
        assert count == int(frames / rate * fps)


@pytest.mark.parametrize(("frames", "rate"), [(100, 25.0), (299, 29.97), (1000, 30.0), (7, 10.0), (2, 10.0), (1, 10.0)])
def test_frames_are_those_of_the_ancestors(frames, rate):
    times = sample_times(frames / rate, frames, SAMPLING)
    ours = nearest(np.arange(frames) / rate, times)
    count = min(max(int(frames / rate * 2.0), 4), 768, frames)
    theirs = np.linspace(0, frames - 1, count).round().astype(int)
    theirs = np.append(theirs, theirs[-1:] if count % 2 else [])
    np.testing.assert_allclose(ours, theirs, atol=1)  # half-way positions go to the even or to the earlier frame
    assert (ours != theirs).mean() < 0.1


@given(
    gaps=st.lists(st.floats(0.001, 2.0), min_size=0, max_size=30),
    times=st.lists(st.floats(-1.0, 40.0), max_size=20),
)
def test_nearest_frame(gaps, times):
    frames = np.concatenate([[0.0], np.cumsum(gaps)])
    for index, time in zip(nearest(frames, np.array(times)), times, strict=True):
        assert abs(frames[index] - time) <= np.abs(frames - time).min() + 1e-12


def test_the_earlier_of_two_equally_near_frames():
    np.testing.assert_array_equal(nearest(np.array([0.0, 1.0, 2.0]), np.array([0.5, 1.5])), [0, 1])


@pytest.mark.parametrize(
    ("field", "value"), [("fps", 0.0), ("min_frames", 3), ("min_frames", 800), ("max_frames", 9), ("max_frames", 0)]
)
def test_wrong_configs_are_refused(field, value):
    with pytest.raises(ValueError, match=r"_frames = .*accepted is|fps = .*accepted is"):
        dataclasses.replace(SAMPLING, **{field: value})
