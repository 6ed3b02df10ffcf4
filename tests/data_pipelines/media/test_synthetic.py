"""Long media made on the fly are what they are said to be, and are read back whole."""

import numpy as np

from data_pipelines.media.audio import audio_blocks
from data_pipelines.media.probe import probe
from data_pipelines.media.sampling import FrameSampling
from data_pipelines.media.synthetic import write_bars, write_tones
from data_pipelines.media.video import video_frames


def test_tones_last_as_long_as_asked(tmp_path):
    write_tones(tmp_path / "tones.flac", 25)
    assert probe(tmp_path / "tones.flac").num_samples == 25 * 16_000
    first, second, third = audio_blocks(tmp_path / "tones.flac")
    assert (len(first), len(second), len(third)) == (160_000, 160_000, 80_000)
    assert len({round(float(np.abs(block).max()), 2) for block in (first, second, third)}) == 3


def test_bars_move_one_frame_a_second(tmp_path):
    write_bars(tmp_path / "bars.mp4", 12, 96, 160)
    found = probe(tmp_path / "bars.mp4", FrameSampling(fps=1.0))
    assert (found.kind, found.height, found.width, found.num_frames) == ("video", 96, 160, 12)
    assert found.frame_times == tuple(float(second) for second in range(12))
    first, *_, last = (frame for _, frame in video_frames(tmp_path / "bars.mp4", found.frame_times))
    assert np.abs(first.astype(int) - last).max() > 20
    # Twelve pixels to the right in all; what is left is the codec's.
    np.testing.assert_allclose(first[:, :-11].astype(int), last[:, 11:], atol=24)
