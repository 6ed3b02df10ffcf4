"""Frames of a video arrive upright, with their own times, and are those that the probe has promised."""

import numpy as np
import pytest

from data_pipelines.media import video
from data_pipelines.media.audio import read_audio
from data_pipelines.media.errors import MediaError
from data_pipelines.media.probe import probe
from data_pipelines.media.sampling import FrameSampling
from data_pipelines.media.video import index_video, video_frames
from tests.data_pipelines.media.media_files import HEIGHT, WIDTH, number_of, write_video

CONSTANT = tuple(range(0, 2000, 100))
# A frame rate that changes: fast, a gap of 700 ms, slow.
VARIABLE = (0, 40, 80, 120, 160, 200, 900, 1000, 1100, 1400, 1700, 2000)
FORMATS = [
    ("a.mp4", "libx264", {"bf": "2"}),
    ("b.mp4", "mpeg4", {"bf": "2"}),
    ("a.mkv", "libx264", {"bf": "2"}),
    ("a.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    ("b.webm", "libvpx-vp9", {"cpu-used": "8", "lag-in-frames": "16"}),
]


@pytest.mark.parametrize(("name", "codec", "options"), FORMATS)
@pytest.mark.parametrize("milliseconds", [CONSTANT, VARIABLE])
def test_every_frame_has_its_own_time(tmp_path, name, codec, options, milliseconds):
    path = write_video(tmp_path / name, milliseconds, codec, **options)
    expected = np.array(milliseconds) / 1000
    index = index_video(path)
    np.testing.assert_allclose(index.times, expected, atol=1e-3)
    frames = list(video_frames(path, expected))
    assert [number_of(image) for _, image in frames] == list(range(len(milliseconds)))
    assert [time for time, _ in frames] == index.times.tolist()
    assert all(image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8 for _, image in frames)


@pytest.mark.parametrize(("name", "codec", "options"), FORMATS)
def test_the_probe_tells_what_the_reader_gives(tmp_path, name, codec, options):
    sound = ("libopus" if name.endswith("webm") else "aac", 48_000, 0)
    path = write_video(tmp_path / name, VARIABLE, codec, sound, **options)
    info = probe(path, FrameSampling(fps=3.0))
    assert (info.kind, info.height, info.width, info.num_frames) == ("video", HEIGHT, WIDTH, len(VARIABLE))
    assert info.num_samples == len(read_audio(path))
    # The last frame is shown as long as the container says, or as the average one.
    assert 2.0 < info.duration < 2.5
    np.testing.assert_allclose(info.fps, len(VARIABLE) / info.duration)
    assert len(info.frame_times) % 2 == 0
    frames = list(video_frames(path, info.frame_times))
    assert tuple(time for time, _ in frames) == info.frame_times
    seen = [number_of(image) for _, image in frames]
    np.testing.assert_allclose(info.frame_times, np.array(VARIABLE)[seen] / 1000, atol=1e-3)


def test_a_video_without_sound(tmp_path):
    path = write_video(tmp_path / "a.mp4", CONSTANT)
    assert probe(path).num_samples == 0
    assert len(probe(path).frame_times) == 4
    with pytest.raises(MediaError, match=r"has no sound track: accepted is .* with sound"):
        read_audio(path)


def test_times_between_frames_give_the_nearest_again_and_again(tmp_path):
    path = write_video(tmp_path / "a.mp4", VARIABLE)
    frames = list(video_frames(path, [-1.0, 0.01, 0.03, 0.04, 0.5, 0.6, 1.55, 1.56, 99.0, 99.0]))
    assert [number_of(image) for _, image in frames] == [0, 0, 1, 1, 5, 6, 9, 10, 11, 11]
    np.testing.assert_allclose(
        [time for time, _ in frames], [0.0, 0.0, 0.04, 0.04, 0.2, 0.9, 1.4, 1.7, 2.0, 2.0], atol=1e-3
    )


@pytest.mark.parametrize(("name", "codec", "options"), FORMATS)
def test_far_frames_are_sought_and_not_decoded_up_to(tmp_path, monkeypatch, name, codec, options):
    path = write_video(tmp_path / name, CONSTANT, codec, **options)
    decoded = []
    original = video._upright

    def counting(frame):
        decoded.append(frame.pts)
        return original(frame)

    monkeypatch.setattr(video, "_upright", counting)
    frames = list(video_frames(path, [0.2, 1.3, 1.9]))
    assert [number_of(image) for _, image in frames] == [2, 13, 19]
    assert len(decoded) == 3


def test_frames_come_one_at_a_time(tmp_path):
    path = write_video(tmp_path / "a.mp4", CONSTANT)
    frames = video_frames(path, np.arange(20) / 10)
    assert number_of(next(frames)[1]) == 0
    assert number_of(next(frames)[1]) == 1
    frames.close()


def turned(path, matrix: tuple[int, ...]) -> None:
    """Writes a rotation (a, b, c, d of the matrix, in ones) into the header of an mp4 file's first track."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[start + place : start + place + 4] = (value * 65_536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "quarter_turns"), [((1, 0, 0, 1), 0), ((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)]
)
def test_turned_videos_are_upright(tmp_path, matrix, quarter_turns):
    path = write_video(tmp_path / "a.mp4", CONSTANT)
    ((_, stored),) = video_frames(path, [1.0])
    turned(path, matrix)
    ((_, image),) = video_frames(path, [1.0])
    np.testing.assert_array_equal(image, np.rot90(stored, quarter_turns))
    info = probe(path)
    assert (info.height, info.width) == image.shape[:2]


def test_one_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", [0])
    info = probe(path)
    assert info.frame_times == (0.0, 0.0)
    assert [number_of(image) for _, image in video_frames(path, info.frame_times)] == [0, 0]


def test_descending_times_are_refused(tmp_path):
    with pytest.raises(ValueError, match="accepted is times in ascending order"):
        next(video_frames(tmp_path / "a.mp4", [1.0, 0.5]))
