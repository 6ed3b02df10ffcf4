"""Conversations with media files: counted before anything is decoded, read into exactly as many places."""

import dataclasses

import numpy as np
from PIL import Image as Pillow
import pytest

from data_pipelines import conversations
from data_pipelines.conversations import ReadingConfig, count_conversation, media_sizes, read_conversation
from data_pipelines.media.errors import MediaError
from data_pipelines.media.probe import MediaInfo
from data_pipelines.media.sampling import FrameSampling
from qomni_jax.config import sequence as layouts
from qomni_jax.config.audio import AudioFeatureConfig
from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.elements import Kind
from qomni_jax.sizes import audio_encoder_tiny, qwen3_omni_audio
from tests.data_pipelines.media.media_files import tones, write_sound, write_video
from tests.sequence.conversations import TOKENIZER

OWN = ReadingConfig(audio_encoder_tiny())
OMNI = ReadingConfig(qwen3_omni_audio(), features=AudioFeatureConfig(floor="utterance"), sequence=layouts.qwen3_omni())
CONTEXT = 262_144
# Timestamps as released tokenizers spell them: a token a digit, one for the word.
SPELLING = ChatTokenizer.train([" seconds>", "user\n", "assistant\n"] * 4, 330)
DEAF = ReadingConfig(None, sequence=layouts.qwen3_5())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("media")
    pixels = np.random.default_rng(0).integers(0, 255, (50, 90, 3), np.uint8)
    Pillow.fromarray(pixels).save(directory / "picture.png")
    write_sound(directory / "sound.wav", "PCM_16", tones(60_000, 44_100, 2), 44_100, "stereo")
    write_video(directory / "video.mp4", range(0, 2000, 100), sound=("aac", 96_000, 0))
    write_video(directory / "mute.mp4", range(0, 700, 100))
    return directory


def conversation(files, *, hears: bool = True) -> list[Turn]:
    sound = (Audio(files / "sound.wav"), Video(files / "video.mp4", sound=True)) if hears else ()
    return [
        Turn("system", (Text("Be brief."),)),
        Turn("user", (Image(files / "picture.png"), Text("and"), *sound, Video(files / "mute.mp4"), Text("what?"))),
    ]


@pytest.mark.parametrize("reading", [OWN, OMNI, DEAF], ids=["own", "qwen3_omni", "qwen3_5"])
def test_the_count_is_the_length_and_every_place_has_its_feature(files, reading):
    asked = conversation(files, hears=reading.audio is not None)
    counted = count_conversation(asked, TOKENIZER, reading, reply=True)
    example = read_conversation(asked, TOKENIZER, reading, reply=True)
    kinds = example.sequence.kinds
    assert counted.total == example.sequence.num_tokens
    merged = reading.image.merge_size**2
    assert np.sum(kinds == Kind.IMAGE) == sum(len(patches) // merged for patches, _ in example.images)
    assert np.sum(kinds == Kind.VIDEO) == sum(len(patches) // merged for patches, _ in example.videos)
    heard = sum(reading.audio.num_tokens(len(r)) for r in example.recordings) if reading.audio else 0
    assert np.sum(kinds == Kind.AUDIO) == heard == counted.audio
    assert (len(example.images), len(example.videos)) == (1, 1 + (reading.audio is not None))


def test_sizes_are_those_of_the_files(files):
    picture, sound, video, mute = media_sizes(conversation(files), OWN)
    assert picture.grid == (1, 4, 6)  # 50 x 90 pixels: 64 x 96
    assert sound.tokens == OWN.audio.num_tokens(round(60_000 / 44_100 * 16_000) // 160)
    assert (video.grid, mute.grid) == ((2, 4, 4), (2, 4, 4))  # 2 s at 2 frames a second; 4 frames are the fewest
    assert video.audio_tokens == OWN.audio.num_tokens(200)
    assert video.patch_times == pytest.approx((0.3, 1.6), abs=0.05)


def test_a_long_video_shares_its_pixels_out(files):
    few = dataclasses.replace(OWN, max_video_pixels=4 * 16_384)
    assert few.frames(4).max_pixels == 16_384
    assert few.frames(1000).max_pixels == 4 * few.image.min_pixels


def file_of(monkeypatch, **found) -> str:
    """A name that stands for a file of which the probe finds this: none of the size is made to be counted."""
    monkeypatch.setattr(conversations, "probe_item", lambda item, sampling: MediaInfo(**found))
    return "long"


def test_ten_hours_of_sound_fit_the_context(monkeypatch):
    ten_hours = 36_000
    source = file_of(monkeypatch, kind="audio", num_samples=16_000 * ten_hours)
    counted = count_conversation([Turn("user", (Audio(source), Text("what?")))], SPELLING, OWN, reply=True)
    assert counted.audio == 225_000
    written = sum(len(SPELLING.encode_text(f"<{second}.0 seconds>")) for second in range(20, ten_hours, 20))
    assert 0 < counted.text - written < 30  # ChatML, brackets and the question
    assert counted.total <= CONTEXT


@pytest.mark.parametrize(
    ("pixels", "a_frame", "sound"),
    [
        (ReadingConfig.max_video_pixels, 50, 0),  # 160 x 320 pixels a frame, at Qwen3-VL's limit for all of them
        (400 * 720 * 1280, 880, 0),  # 704 x 1,280
        (400 * 720 * 1280, 880, 400),
    ],
)
def test_400_seconds_of_720p_at_a_frame_a_second_fit_the_context(monkeypatch, pixels, a_frame, sound):
    times = tuple(float(second) for second in range(400))
    found = {"kind": "video", "height": 720, "width": 1280, "num_samples": 16_000 * sound, "frame_times": times}
    source = file_of(monkeypatch, **found)
    reading = dataclasses.replace(OWN, sampling=FrameSampling(fps=1.0), max_video_pixels=pixels)
    asked = [Turn("user", (Video(source, sound=sound > 0), Text("what?")))]
    counted = count_conversation(asked, SPELLING, reading, reply=True)
    assert counted.video == 200 * a_frame
    assert counted.audio == sound * 6.25
    assert counted.total <= CONTEXT


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (lambda d: Image(d / "sound.wav"), "sound.wav.* is an audio file: accepted is a complete png"),
        (lambda d: Video(d / "picture.png"), "picture.png.* is an image file: accepted is a complete mp4"),
        (lambda d: Audio(d / "mute.mp4"), "mute.mp4.* has no sound: accepted is"),
        (lambda d: Video(d / "mute.mp4", sound=True), "mute.mp4.* has no sound"),
        (lambda d: Audio(d / "absent.wav"), "absent.wav.* cannot be read"),
    ],
)
def test_files_that_are_something_else_are_named(files, part, message):
    with pytest.raises(MediaError, match=message):
        read_conversation([Turn("user", (part(files),))], TOKENIZER, OWN)


def test_sound_needs_an_encoder(files):
    with pytest.raises(ValueError, match=r"sound.wav.*: sound for a model without an audio encoder"):
        media_sizes([Turn("user", (Audio(files / "sound.wav"),))], DEAF)
