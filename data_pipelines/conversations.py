"""Conversations with media, from files or memory: how many tokens they take, and their features, read and laid out."""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import itertools

import numpy as np

from data_pipelines.media.audio import audio_blocks
from data_pipelines.media.errors import AUDIO, MediaError
from data_pipelines.media.image import read_image
from data_pipelines.media.probe import MediaInfo
from data_pipelines.media.sampling import FrameSampling
from data_pipelines.media.sources import Source, source_name
from data_pipelines.media.video import video_frames
from data_pipelines.media_items import is_heard, probe_item
from qomni_jax.audio.features import feature_blocks
from qomni_jax.config.audio import AudioEncoderConfig, AudioFeatureConfig
from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.config.vision import ImageConfig
from qomni_jax.sequence.assembly import assemble
from qomni_jax.sequence.chat import Audio, Image, Media, Turn, media_of
from qomni_jax.sequence.counting import TokenCount, count_tokens
from qomni_jax.sequence.example import Example, Pictures, Recording, StreamedExample
from qomni_jax.sequence.media_sizes import (
    AudioSize,
    ImageSize,
    MediaSize,
    VideoSize,
    audio_size,
    image_size,
    video_size,
)
from qomni_jax.sequence.timestamps import patch_times, regular_patch_times
from qomni_jax.sequence.tokenizer import TokenizerProtocol
from qomni_jax.vision.patches import image_patches, video_patches
from qomni_jax.vision.resize import smart_resize


@dataclasses.dataclass(frozen=True)
class ReadingConfig:
    """How files become what a Thinker reads.

    Attributes:
      audio: the encoder, whose tokens are counted; None for a model that does not hear.
      features: its log-mel features.
      image: sizes of images.
      sampling: which frames of a video are looked at.
      max_video_pixels: pixels of all frames of a video together, after resizing (Qwen3-VL's limit).
      sequence: how time and positions are laid out.
    """

    audio: AudioEncoderConfig | None
    features: AudioFeatureConfig = dataclasses.field(default_factory=AudioFeatureConfig)
    image: ImageConfig = dataclasses.field(default_factory=ImageConfig)
    sampling: FrameSampling = dataclasses.field(default_factory=FrameSampling)
    max_video_pixels: int = 25_165_824
    sequence: SequenceConfig = dataclasses.field(default_factory=SequenceConfig)

    def frames(self, count: int) -> ImageConfig:
        """Sizes of the frames of a video of `count` frames."""
        least = 4 * max(self.image.min_pixels, self.image.size_unit**2)
        each = max(self.max_video_pixels // count, least)
        return dataclasses.replace(self.image, max_pixels=min(each, self.image.max_pixels))


def media_sizes(conversation: Sequence[Turn], reading: ReadingConfig) -> list[MediaSize]:
    """The sizes of a conversation's media, whose sources are `media.sources.Source`, from headers and packets alone.

    Raises MediaError for a file that is not what the conversation says it is.
    """
    return [_size(item, _probe(item, reading), reading) for item in media_of(conversation)]


def count_conversation(
    conversation: Sequence[Turn], tokenizer: TokenizerProtocol, reading: ReadingConfig, *, reply: bool = False
) -> TokenCount:
    """Tokens that `read_conversation` gives, before anything is decoded; errors as there."""
    return count_tokens(conversation, media_sizes(conversation, reading), tokenizer, reading.sequence, reply=reply)


def stream_conversation(
    conversation: Sequence[Turn],
    tokenizer: TokenizerProtocol,
    reading: ReadingConfig,
    *,
    rng: np.random.Generator | None = None,
    reply: bool = False,
) -> StreamedExample:
    """A conversation whose media, files or `MediaBytes` of any length, are decoded as they are walked over, in constant
    memory.

    `rng` and `reply` as in `sequence.assemble`. Raises MediaError for a file that cannot be used, while walking for
    what only decoding finds; ValueError as `assemble`.
    """
    sizes: list[MediaSize] = []
    images: list[Pictures] = []
    videos: list[Pictures] = []
    recordings: list[Recording] = []
    for item in media_of(conversation):
        info = _probe(item, reading)
        size = _size(item, info, reading)
        sizes.append(size)
        if isinstance(size, ImageSize):
            images.append(Pictures(size.grid, _image_patches(item.source, reading.image)))
        elif isinstance(size, VideoSize):
            frames = reading.frames(len(info.frame_times))
            videos.append(Pictures(size.grid, _video_patches(item.source, info.frame_times, frames)))
        if is_heard(item):
            blocks = feature_blocks(functools.partial(audio_blocks, item.source), reading.features)
            recordings.append(Recording(reading.features.num_frames(info.num_samples), blocks))
    sequence = assemble(conversation, sizes, tokenizer, reading.sequence, rng=rng, reply=reply)
    return StreamedExample(sequence, images, videos, recordings)


def read_conversation(
    conversation: Sequence[Turn],
    tokenizer: TokenizerProtocol,
    reading: ReadingConfig,
    *,
    rng: np.random.Generator | None = None,
    reply: bool = False,
) -> Example:
    """The same with all media in memory."""
    return stream_conversation(conversation, tokenizer, reading, rng=rng, reply=reply).read()


def _image_patches(source: Source, config: ImageConfig) -> Iterator[np.ndarray]:
    yield image_patches(read_image(source), config)[0]


def _video_patches(source: Source, times: Sequence[float], config: ImageConfig) -> Iterator[np.ndarray]:
    """The patches `[h * w, patch]` of one temporal patch of the frames at `times` after the other."""
    frames = (frame for _, frame in video_frames(source, times))
    while group := list(itertools.islice(frames, config.temporal_patch_size)):
        yield video_patches(np.stack(group), config)[0]


def _probe(item: Media, reading: ReadingConfig) -> MediaInfo:
    info = probe_item(item, reading.sampling)
    if is_heard(item):
        if reading.audio is None:
            name = source_name(item.source)
            raise ValueError(f"{name!r}: sound for a model without an audio encoder: accepted is one with it")
        if not _audio_tokens(info, reading.audio, reading):
            raise MediaError(item.source, "has too little sound for a token", AUDIO)
    return info


def _size(item: Media, info: MediaInfo, reading: ReadingConfig) -> AudioSize | ImageSize | VideoSize:
    patch = reading.image.patch_size
    if isinstance(item, Image):
        return image_size(info.height, info.width, functools.partial(smart_resize, config=reading.image), patch)
    if isinstance(item, Audio):
        assert reading.audio is not None
        return audio_size(info.num_samples, reading.features.num_frames, reading.audio.num_tokens)
    depth = reading.image.temporal_patch_size
    resize = functools.partial(smart_resize, config=reading.frames(len(info.frame_times)))
    heard = _audio_tokens(info, reading.audio, reading) if item.sound and reading.audio is not None else None
    size = video_size(info.frame_times, info.height, info.width, resize, patch, depth, heard)
    if reading.sequence.temporal_ids == "continuous":  # evenly spaced, by the starts of the patches
        step = float(np.mean(np.diff(patch_times(info.frame_times, depth)))) if size.grid[0] > 1 else 0.0
        size = dataclasses.replace(size, patch_times=tuple(regular_patch_times(size.grid[0], step).tolist()))
    return size


def _audio_tokens(info: MediaInfo, audio: AudioEncoderConfig, reading: ReadingConfig) -> int:
    return audio.num_tokens(reading.features.num_frames(info.num_samples))
