"""The bytes of a file give what the file gives, and errors call them by their name."""

import numpy as np
from PIL import Image
import pytest

from data_pipelines.media.audio import read_audio
from data_pipelines.media.errors import MediaError
from data_pipelines.media.image import read_image
from data_pipelines.media.probe import probe
from data_pipelines.media.sources import MediaBytes
from data_pipelines.media.video import video_frames
from tests.data_pipelines.media.media_files import tones, write_sound, write_video

RATE = 24_000


@pytest.fixture(scope="module", params=["a.wav", "a.flac", "a.mp3", "a.ogg", "a.png", "a.webp", "a.mp4", "a.webm"])
def path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("sources") / request.param
    if path.suffix in (".mp4", ".webm"):
        codecs = ("libx264", "aac") if path.suffix == ".mp4" else ("libvpx", "libopus")
        return write_video(path, range(0, 1000, 100), codecs[0], sound=(codecs[1], 48_000, 0))
    if path.suffix in (".png", ".webp"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save(path)
        return path
    codec = {".wav": "PCM_16", ".flac": "flac", ".mp3": "libmp3lame", ".ogg": "VORBIS"}[path.suffix]
    return write_sound(path, codec, tones(RATE, RATE), RATE, "mono")


def test_bytes_give_what_their_file_gives(path):
    held = MediaBytes(path.read_bytes(), "record 7")
    info = probe(held)
    assert info == probe(path)
    if info.kind == "image":
        np.testing.assert_array_equal(read_image(held), read_image(path))
    if info.num_samples:
        np.testing.assert_array_equal(read_audio(held), read_audio(path))
    if info.kind == "video":
        for held_frame, frame in zip(*(video_frames(source, info.frame_times) for source in (held, path)), strict=True):
            assert held_frame[0] == frame[0]
            np.testing.assert_array_equal(held_frame[1], frame[1])


def test_bytes_that_are_cut_short_are_called_by_their_name(path):
    data = path.read_bytes()
    for part in (data[: len(data) // 2], b""):
        held = MediaBytes(part, "record 7")
        with pytest.raises(MediaError, match=r"^'record 7' is .*: accepted is a complete"):
            read_image(held) if path.suffix in (".png", ".webp") else probe(held)


def test_the_content_is_not_shown():
    assert repr(MediaBytes(b"abc", "record 7")) == "MediaBytes(name='record 7')"
