"""What cannot be used is refused in one line that names the file and says what is accepted; nothing is half-read."""

import os

import numpy as np
from PIL import Image
import pytest

from data_pipelines.media.audio import audio_blocks, read_audio
from data_pipelines.media.errors import MediaError
from data_pipelines.media.image import read_image
from data_pipelines.media.probe import probe
from data_pipelines.media.video import index_video, video_frames
from tests.data_pipelines.media.media_files import remux, tones, write_sound, write_video

RATE = 48_000
SOUND = {
    "a.wav": "PCM_16",
    "b.wav": "PCM_U8",
    "a.flac": "flac",
    "a.mp3": "libmp3lame",
    "a.ogg": "VORBIS",
    "b.ogg": "libopus",
    "a.m4a": "aac",
    "a.webm": "libopus",
    "a.mkv": "aac",
}
READERS = [read_audio, read_image, probe, lambda path: list(video_frames(path, [0.0]))]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    samples = tones(RATE, RATE, 2)
    return {
        name: write_sound(folder / name, codec, samples, RATE, "stereo").read_bytes() for name, codec in SOUND.items()
    }


def refused(reader, path, match: str) -> None:
    with pytest.raises(MediaError, match=match) as info:
        reader(path)
    message = str(info.value)
    assert message.startswith(repr(str(path)))
    assert ": accepted is a" in message
    assert "\n" not in message


@pytest.mark.parametrize("reader", READERS)
def test_missing_empty_and_foreign_files(tmp_path, reader):
    refused(reader, tmp_path / "none.wav", r"cannot be read \(No such file")
    refused(reader, tmp_path, r"cannot be read \(Is a directory")
    for name, content, match in (
        ("a.wav", b"", "is empty"),
        ("b.mp4", b"Dear diary, nothing to hear here.\n" * 20, "is no media file, it starts with b'Dear dia'"),
        ("c.mp3", b"#EXTM3U\n/etc/hostname\n", "is no media file"),
        ("d.wav", b"\0" * 1000, "is no media file"),
        ("e.png", b"\xff\xfet\0e\0x\0t\0", "is no media file"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        refused(reader, path, match)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    path.chmod(0)
    refused(read_audio, path, r"cannot be read \(Permission denied")


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95, -1])
def test_cut_sound_gives_no_sample(tmp_path, sounds, name, cut):
    data = sounds[name]
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * cut)] if cut > 0 else data[:-1])
    blocks = audio_blocks(path)
    # The header of the last flac frame states its samples, and only decoding finds that a byte is missing.
    if cut > 0 or name != "a.flac":
        refused(probe, path, "is cut short|damaged")
        with pytest.raises(MediaError, match="is cut short"):
            next(blocks)
    else:
        with pytest.raises(MediaError, match="damaged"):
            list(blocks)


@pytest.mark.parametrize("name", SOUND)
def test_only_headers_are_refused(tmp_path, sounds, name):
    path = tmp_path / name
    path.write_bytes(sounds[name][:40])
    refused(read_audio, path, "is cut short|damaged|no samples")


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_sound_without_a_sample(tmp_path, name):
    path = write_sound(tmp_path / name, "PCM_16", np.zeros((1, 0), np.float32), RATE, "mono")
    refused(read_audio, path, "has no samples|is empty")
    refused(probe, path, "has neither samples nor pictures|is empty")


def test_a_damaged_flac_frame(tmp_path, sounds):
    data = bytearray(sounds["a.flac"])
    data[len(data) // 2] ^= 0x10
    path = tmp_path / "a.flac"
    path.write_bytes(data)
    refused(read_audio, path, "damaged|cut short")


def test_floats_that_are_not_finite(tmp_path):
    samples = tones(1000, RATE)
    samples[0, 500] = np.nan
    path = write_sound(tmp_path / "a.wav", "FLOAT", samples, RATE, "mono")
    refused(read_audio, path, "is damaged at sample 0")


def test_sound_is_known_by_its_content(tmp_path, sounds):
    expected = read_audio(write_sound(tmp_path / "a.mp3", "libmp3lame", tones(RATE, RATE, 2), RATE, "stereo"))
    path = tmp_path / "b.wav"
    path.write_bytes(sounds["a.mp3"])
    np.testing.assert_array_equal(read_audio(path), expected)


def test_an_image_is_no_sound_and_sound_no_image(tmp_path, sounds):
    path = tmp_path / "a.wav"
    Image.new("RGB", (4, 4)).save(path, format="png")
    refused(read_audio, path, "is a png image: accepted is .* with sound")
    refused(index_video, path, "is a png image: accepted is .* with pictures")
    path.write_bytes(sounds["a.wav"])
    refused(read_image, path, "is a wav file: accepted is a complete png")
    refused(index_video, path, "has no video track")


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx")])
@pytest.mark.parametrize("cut", [0.3, 0.9, -1])
def test_cut_videos_give_no_frame(tmp_path, name, codec, cut):
    path = write_video(tmp_path / name, range(0, 2000, 100), codec)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)] if cut > 0 else data[:-1])
    for reader in (index_video, probe):
        refused(reader, path, "is cut short")


def test_a_damaged_video(tmp_path):
    path = write_video(tmp_path / "a.mp4", range(0, 2000, 100))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    # Frames of noise, behind the first key frame's headers.
    data[start + 900 : start + 1600] = np.random.default_rng(0).integers(0, 256, 700).astype(np.uint8).tobytes()
    path.write_bytes(data)
    refused(lambda path: list(video_frames(path, np.arange(20) / 10)), path, "damaged")


def test_a_wav_of_unknown_size_is_read_to_its_end(tmp_path, sounds):
    data = bytearray(sounds["a.wav"])
    for start in (4, data.index(b"data") + 4):
        data[start : start + 4] = b"\xff" * 4
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    assert probe(path).num_samples == len(read_audio(path)) == 16_000


def outcome(reader, path):
    try:
        return reader(path)
    except MediaError as error:
        return error


@pytest.mark.parametrize("name", [*SOUND, "c.mp4", "c.webm", "c.png", "c.jpg", "c.webp"])
def test_whatever_is_damaged_only_a_media_error_is_raised(tmp_path, sounds, name):
    path = tmp_path / name
    if name in sounds:
        path.write_bytes(sounds[name])
    elif name.endswith(("mp4", "webm")):
        write_video(path, range(0, 1000, 100), "libx264" if name == "c.mp4" else "libvpx")
    else:
        Image.fromarray(np.arange(48 * 64 * 3).astype(np.uint8).reshape(48, 64, 3)).save(path)
    intact = path.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(24):
        data = bytearray(intact)
        # Headers, where damage confuses most, as often as anything else.
        for place in rng.integers(0, 400 if trial % 2 else len(data), 3):
            data[place % len(data)] = rng.integers(256)
        path.write_bytes(data)
        promise = outcome(probe, path)
        if not isinstance(promise, MediaError) and promise.kind == "audio":
            samples = outcome(read_audio, path)
            assert isinstance(samples, MediaError) or len(samples) == promise.num_samples
        elif not isinstance(promise, MediaError) and promise.kind == "image":
            outcome(read_image, path)
        else:
            outcome(lambda path: list(video_frames(path, [0.0, 0.5, 1.0])), path)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.m4a", "aac", {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "200000"}),
        ("b.m4a", "aac", {"movflags": "faststart"}),
        ("a.webm", "libopus", {"live": "1"}),
    ],
)
def test_files_that_were_written_for_streaming(tmp_path, name, codec, options):
    path = write_sound(tmp_path / name, codec, tones(RATE, RATE, 2), RATE, "stereo", **options)
    samples = read_audio(path)
    assert probe(path).num_samples == len(samples)
    # A fragmented file has no edit list: the encoder's delay of 1024 samples may stay in.
    assert 16_000 <= len(samples) <= 16_000 + 1024


def test_an_mp3_that_states_no_length_and_is_cut_inside_a_frame(tmp_path):
    path = write_sound(tmp_path / "a.mp3", "libmp3lame", tones(RATE, RATE), RATE, "mono", write_xing="0")
    assert probe(path).num_samples == len(read_audio(path))
    path.write_bytes(path.read_bytes()[:-1])
    refused(probe, path, "is cut short, a frame has")


def test_tags_around_an_mp3_are_no_sound(tmp_path, sounds):
    path = tmp_path / "a.mp3"
    path.write_bytes(sounds["a.mp3"] + b"TAG" + b"title".ljust(125, b"\0"))
    assert probe(path).num_samples == len(read_audio(path)) == 16_000


def test_packets_copied_into_another_container(tmp_path):
    source = write_sound(tmp_path / "a.mp3", "libmp3lame", tones(RATE, RATE), RATE, "mono")
    for name in ("a.mkv", "a.mp4"):
        path = remux(source, tmp_path / name)
        assert probe(path).num_samples == len(read_audio(path))
