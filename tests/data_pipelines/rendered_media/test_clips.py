"""A clip is what its description says: when something appears, when a word sounds."""

import numpy as np
import pytest

from data_pipelines.media.sources import MediaBytes
from data_pipelines.media.video import video_frames
from data_pipelines.rendered_media.clips import draw_clip, render_clip


@pytest.fixture(scope="module", params=range(6))
def drawn(request, config):
    rng = np.random.default_rng(request.param)
    return *draw_clip(config, False, rng), rng


def test_its_words_sound_when_it_says(drawn):
    clip, sound, _ = drawn
    assert len(sound) == clip.seconds * 16_000
    loud = np.abs(sound.astype(int)) > 300
    first, last = round(clip.words[0].start * 16_000), round(clip.words[-1].end * 16_000)
    # A word begins with the silence of a stop, or with a breath, of 0.1 seconds at most.
    assert 0 <= np.flatnonzero(loud)[0] - first < 1_600
    assert np.flatnonzero(loud)[-1] < last + 1_600
    for word in clip.words:
        assert loud[round(word.start * 16_000) : round(word.end * 16_000)].any()
        assert word.text in clip.said.split()


def test_its_frames_change_when_something_appears(config, drawn):
    clip, sound, rng = drawn
    source = MediaBytes(render_clip(config, clip, sound, rng), "clip")
    times = np.arange(clip.seconds * 2) / 2
    frames = np.stack([image for _, image in video_frames(source, times)]).astype(int)
    # What a lossy codec makes of the same picture is far from another one.
    changes = np.abs(np.diff(frames, axis=0)).max(axis=(1, 2, 3)) > 60
    assert (times[1:][changes]).tolist() == list(clip.since[1:])
    assert len(set(clip.shown)) == len(clip.shown) == len(clip.since)
