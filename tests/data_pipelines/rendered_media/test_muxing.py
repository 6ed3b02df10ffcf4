"""The readers find the frames, their times and the sound that were put in."""

import numpy as np
import pytest

from data_pipelines.media.audio import read_audio
from data_pipelines.media.probe import probe
from data_pipelines.media.sources import MediaBytes
from data_pipelines.media.video import video_frames
from data_pipelines.rendered_media.muxing import encode_video


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_frames_and_sound_come_back(container):
    levels = np.array([20, 90, 160, 230, 60, 130], np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (6, 48, 64, 3))
    time = np.arange(48_000) / 16_000
    samples = (8000 * np.sin(2 * np.pi * 440 * time) * (time > 1)).astype(np.int16)
    data = encode_video(frames, 2, samples, container)
    assert encode_video(frames, 2, samples, container) == data
    source = MediaBytes(data, "clip")
    info = probe(source)
    assert (info.kind, info.height, info.width, info.num_frames) == ("video", 48, 64, 6)
    np.testing.assert_allclose(info.frame_times, np.arange(6) / 2, atol=2e-3)
    assert info.duration == pytest.approx(3.0, abs=2e-3)
    seen = np.array([image.mean() for _, image in video_frames(source, info.frame_times)])
    heard = read_audio(source)
    assert len(heard) == info.num_samples == 48_000
    if container == "mkv":
        np.testing.assert_array_equal(seen, levels)
        np.testing.assert_array_equal(heard, samples / np.float32(32_768))
    else:
        # Eight bits through limited range and back; AAC at 32 kbit/s keeps a tone.
        np.testing.assert_allclose(seen, levels, atol=3)
        assert np.corrcoef(heard, samples)[0, 1] > 0.98
