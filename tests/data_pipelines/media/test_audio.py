"""Sound of every format arrives at 16 kHz, in time, the same whole or in blocks, as many samples as were promised."""

import tracemalloc

import av
import numpy as np
import pytest
import soundfile
import soxr

from data_pipelines.media import audio, sample_count
from data_pipelines.media.audio import audio_blocks, num_samples, read_audio, resampled_length
from data_pipelines.media.probe import probe
from tests.data_pipelines.media.media_files import encode_sound, remux, tones, write_sound, write_video

# (file name, codec, sample rate, layout, step of the sample format)
LOSSLESS = [
    ("a.wav", "PCM_16", 44_100, "stereo", 2**-15),
    ("b.wav", "PCM_U8", 8_000, "mono", 2**-7),
    ("c.wav", "PCM_24", 48_000, "stereo", 2**-23),
    ("d.wav", "FLOAT", 22_050, "mono", 1e-7),
    ("e.wav", "DOUBLE", 16_000, "stereo", 1e-7),
    ("f.wav", "pcm_s16le", 48_000, "7.1", 2**-15),
    ("g.wav", "PCM_32", 96_000, "mono", 1e-7),
    ("a.flac", "PCM_16", 44_100, "stereo", 2**-15),
    ("b.flac", "PCM_24", 48_000, "stereo", 2**-23),
    ("c.flac", "flac", 48_000, "7.1", 2**-15),
    ("flac.ogg", "flac", 44_100, "stereo", 2**-15),
    ("flac.mkv", "flac", 44_100, "stereo", 2**-15),
    ("pcm.mkv", "pcm_s16le", 44_100, "stereo", 2**-15),
    ("alac.m4a", "alac", 44_100, "stereo", 2**-15),
]
# (file name, codec, sample rate, layout, milliseconds by which the container may be wrong about the end)
LOSSY = [
    ("a.mp3", "libmp3lame", 44_100, "stereo", 0),
    ("b.mp3", "libmp3lame", 24_000, "mono", 0),
    ("c.mp3", "MPEG_LAYER_III", 48_000, "stereo", 0),
    ("mp3.mp4", "libmp3lame", 44_100, "stereo", 1),
    ("mp3.mkv", "libmp3lame", 44_100, "stereo", 0),
    ("vorbis.ogg", "VORBIS", 44_100, "stereo", 0),
    ("opus.ogg", "libopus", 48_000, "stereo", 0),
    ("a.webm", "libopus", 48_000, "mono", 0),
    ("opus.mp4", "libopus", 48_000, "5.1", 1),
    ("a.m4a", "aac", 44_100, "stereo", 1),
    ("b.m4a", "aac", 48_000, "5.1", 1),
    ("aac.mkv", "aac", 44_100, "stereo", 24),
]
# (file name, codec, sample rate, samples by which the container may be wrong about the end, samples); mp4 counts
# milliseconds there, and some encoders state no shorter length than 960.
SHORT = [
    (name, codec, rate, slack, samples)
    for name, codec, rate, slack, shortest in (
        ("a.wav", "PCM_16", 44_100, 0, 3),
        ("a.flac", "flac", 44_100, 0, 3),
        ("a.mp3", "libmp3lame", 44_100, 0, 960),
        ("a.ogg", "VORBIS", 44_100, 0, 3),
        ("b.ogg", "libopus", 48_000, 0, 3),
        ("a.webm", "libopus", 48_000, 0, 960),
        ("a.m4a", "aac", 44_100, 45, 960),
        ("b.m4a", "alac", 48_000, 48, 960),
    )
    for samples in (3, 960, 1024, 1105, 2401, 12_345)
    if samples >= shortest
]
CHANNELS = {"mono": 1, "stereo": 2, "5.1": 6, "7.1": 8}


def check_promises(path) -> np.ndarray:
    """The file's samples, after checking that every way to them and every promise about them agrees."""
    whole = read_audio(path)
    assert whole.dtype == np.float32
    assert num_samples(path) == probe(path).num_samples == len(whole)
    blocks = list(audio_blocks(path, 777))
    assert {len(block) for block in blocks[:-1]} <= {777}
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    return whole


@pytest.mark.parametrize(("name", "codec", "rate", "layout", "step"), LOSSLESS)
def test_lossless_sound_is_the_resampled_mean_of_its_channels(tmp_path, name, codec, rate, layout, step):
    samples = tones(rate // 2 + 17, rate, CHANNELS[layout])
    whole = check_promises(write_sound(tmp_path / name, codec, samples, rate, layout))
    expected = soxr.resample(samples.mean(axis=0), rate, 16_000, quality="HQ")
    assert len(whole) == len(expected)
    # Each sample is off by a step or less; the resampler's ripples add up to a few of these.
    np.testing.assert_allclose(whole, expected, rtol=0, atol=3 * step + 1e-6)


@pytest.mark.parametrize(("name", "codec", "rate", "layout", "slack"), LOSSY)
def test_lossy_sound_is_in_time(tmp_path, name, codec, rate, layout, slack):
    samples = tones(rate // 2 + 17, rate, CHANNELS[layout])
    # A low-frequency channel would not come back.
    samples[3:4] = 0.0
    whole = check_promises(write_sound(tmp_path / name, codec, samples, rate, layout))
    expected = soxr.resample(samples.mean(axis=0), rate, 16_000, quality="HQ")
    assert -16 <= len(whole) - len(expected) <= 16 * slack
    # Codec noise is 20 dB below; a shift of one sample at 16 kHz alone would leave about as much at 500 Hz, so the
    # ends, where codecs start up and run out, are left out.
    middle = slice(800, len(expected) - 800)
    error = whole[middle] - expected[middle]
    assert np.sqrt((error**2).mean()) < 0.1 * np.sqrt((expected[middle] ** 2).mean())


@pytest.mark.parametrize(("name", "codec", "rate", "slack", "samples"), SHORT)
def test_sound_of_any_length_has_its_length(tmp_path, name, codec, rate, slack, samples):
    path = write_sound(tmp_path / name, codec, tones(samples, rate), rate, "mono")
    native = sample_count.native_samples(path)
    assert abs(native - samples) <= slack
    assert len(check_promises(path)) == resampled_length(native, rate)


def test_vorbis_in_webm_is_counted_by_decoding(tmp_path):
    path = remux(write_sound(tmp_path / "a.ogg", "VORBIS", tones(88_200, 44_100), 44_100, "mono"), tmp_path / "a.webm")
    # Copied from an Ogg file, its packets state an end that is off by one short block of 128 samples.
    assert abs(len(check_promises(path)) - 32_000) <= 128 * 160 / 441


def test_packets_are_counted_without_decoding(tmp_path, monkeypatch):
    paths = [
        write_sound(tmp_path / name, codec, tones(30_000, 48_000, 2), 48_000, "stereo")
        for name, codec in (("a.wav", "PCM_16"), ("a.flac", "flac"), ("a.mp3", "libmp3lame"), ("a.m4a", "aac"))
    ]
    opened = []
    original = sample_count.open_media

    def counting(path, accepted):
        opened.append(path)
        return original(path, accepted)

    monkeypatch.setattr(sample_count, "open_media", counting)
    monkeypatch.setattr(audio, "_decoded", None)
    assert [num_samples(path) for path in paths] == [10_000] * len(paths)
    assert opened == paths


@pytest.mark.parametrize("rate", [8_000, 11_025, 32_000, 44_100, 48_000, 96_000, 37_800])
def test_the_resampler_gives_the_promised_number(rate):
    for samples in (1, 2, 3, 101, 4_410, 9_999):
        native = np.ones(samples, np.float32)
        assert len(soxr.resample(native, rate, 16_000)) == resampled_length(samples, rate)


def test_a_silent_track_is_silence(tmp_path):
    path = write_sound(tmp_path / "a.wav", "PCM_16", np.zeros((2, 4_410), np.float32), 44_100, "stereo")
    np.testing.assert_array_equal(read_audio(path), np.zeros(1_600, np.float32))
    path = write_sound(tmp_path / "a.m4a", "aac", np.zeros((2, 4_410), np.float32), 44_100, "stereo")
    np.testing.assert_allclose(read_audio(path), np.zeros(1_600), atol=1e-4)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_sound_that_starts_after_the_pictures_is_preceded_by_silence(tmp_path, name):
    codec = "libopus" if name == "a.webm" else "aac"
    video = "libvpx" if name == "a.webm" else "libx264"
    path = write_video(tmp_path / name, range(0, 1000, 100), video, (codec, 24_000, 12_000))
    whole = check_promises(path)
    # 0.25 s: before it, what the codec and the resampler smear forward.
    assert np.abs(whole[:3_800]).max() < 2e-3
    expected = soxr.resample(tones(24_000, 48_000, 2).mean(axis=0), 48_000, 16_000)
    shifts = range(-40, 41, 2)
    errors = [np.abs(whole[4_800 + shift : 11_000 + shift] - expected[800:7_000]).mean() for shift in shifts]
    # The containers round the start to a millisecond, 16 samples.
    assert abs(shifts[int(np.argmin(errors))]) <= 16


def test_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame(16, 16, "yuvj420p")
        frame.pts = 0
        container.mux(cover.encode(frame))
        container.mux(cover.encode(None))
        encode_sound(container, sound, tones(3_200, 16_000), 16_000, "mono", 0)
    assert probe(path).kind == "audio"
    assert probe(path).num_samples == 3_200


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_U8"), ("a.flac", "PCM_16")])
def test_a_long_file_is_read_in_constant_memory(tmp_path, name, subtype):
    path, minutes = tmp_path / name, 20
    with soundfile.SoundFile(path, "w", 16_000, 1, subtype) as file:
        for _ in range(minutes):
            file.write(np.zeros(16_000 * 60, np.float32))
    tracemalloc.start()
    total = sum(len(block) for block in audio_blocks(path, 16_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == minutes * 60 * 16_000
    # The file is 77 MB as float32; held are a block of 64 kB and what one packet gives.
    assert peak < 2_000_000
