"""Conversations and their media as one batch: what the encoders read, and where their outputs go."""

from collections.abc import Iterator, Sequence
import itertools
from typing import NamedTuple

import numpy as np

from qomni_jax.config.audio import AudioEncoderConfig
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.sequence.assembly import OmniSequence
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.example import Example
from qomni_jax.thinker.model import Media
from qomni_jax.vision.patches import frame_rows


class MediaShape(NamedTuple):
    """Frames and tokens of each, recordings and feature frames of each: the least that a batch's `Media` have."""

    frames: int = 0
    frame_tokens: int = 0
    recordings: int = 0
    recording_frames: int = 0


NO_MEDIA = MediaShape()


def place_media(
    examples: Sequence[Example], config: ThinkerConfig, least: MediaShape = NO_MEDIA
) -> tuple[Media | None, list[np.ndarray]]:
    """What the encoders read for all examples, None without media, and for each example its slots int32 `[T]`.

    Slots are rows of `MediaFeatures.table`. Sizes are rounded up (`bucket`) and at least `least`, so that batches of
    like sizes share one compiled program; what stands in the padding is never read.

    Raises ValueError where an example's media do not fill the places that its sequence has for them.
    """
    frames = [item for e in examples for item in (*e.images, *e.videos)]
    recordings = [recording for e in examples for recording in e.recordings]
    patches = grids = features = lengths = None
    seen: Iterator[np.ndarray] = iter(())
    heard: Iterator[np.ndarray] = iter(())
    row = 0
    if (frames or least.frames) and config.vision is not None:
        merged = config.vision.merged_patches
        width = max(bucket(max((h * w // merged for _, (_, h, w) in frames), default=1)), least.frame_tokens)
        rows = max(bucket(sum(t for _, (t, _, _) in frames)), least.frames)
        if frames:
            patches, grids = frame_rows(frames, rows=rows, length=width * merged)
        else:
            patches = np.zeros((rows, width * merged, config.vision.patch_dim), np.float32)
            grids = np.zeros((rows, 2), np.int32)
        row = rows * width
        seen = table_rows(0, width, [h * w // merged for _, (t, h, w) in frames for _ in range(t)])
    if (recordings or least.recordings) and config.audio is not None:
        features, lengths = _padded(recordings, config.audio, least)
        counts = [config.audio.num_tokens(len(recording)) for recording in recordings]
        heard = table_rows(row, config.audio.num_tokens(features.shape[1]), counts)
    slots = []
    for number, example in enumerate(examples):
        images, videos = (sum(t for _, (t, _, _) in items) for items in (example.images, example.videos))
        places = {
            Kind.IMAGE: list(itertools.islice(seen, images)),
            Kind.VIDEO: list(itertools.islice(seen, videos)),
            Kind.AUDIO: list(itertools.islice(heard, len(example.recordings))),
        }
        slots.append(fill_slots(number, example.sequence, places))
    media = Media(patches, grids, features, lengths)
    return (None if features is None and patches is None else media), slots


def bucket(size: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: at most half as much again."""
    power = 1 << max(size - 1, 0).bit_length()
    return 3 * power // 4 if power >= 4 and size <= 3 * power // 4 else power


def _padded(
    recordings: Sequence[np.ndarray], config: AudioEncoderConfig, least: MediaShape
) -> tuple[np.ndarray, np.ndarray]:
    """Recordings as rows `[A, F, mels]` of zeros after their own frames, and how many these are `[A]`."""
    chunks = bucket(max((-(-len(recording) // config.chunk_frames) for recording in recordings), default=1))
    count = max(bucket(len(recordings)), least.recordings)
    frames = max(chunks * config.chunk_frames, least.recording_frames)
    features = np.zeros((count, frames, config.num_mels), np.float32)
    lengths = np.zeros(len(features), np.int32)
    for number, recording in enumerate(recordings):
        features[number, : len(recording)] = recording
        lengths[number] = len(recording)
    return features, lengths


def table_rows(start: int, width: int, counts: Sequence[int]) -> Iterator[np.ndarray]:
    """The rows of the table that hold the outputs of each encoder row, `width` apart, `counts` of them real."""
    for number, count in enumerate(counts):
        yield start + number * width + np.arange(count)


def fill_slots(number: int, sequence: OmniSequence, places: dict[Kind, list[np.ndarray]]) -> np.ndarray:
    """Slots int32 `[T]` of example `number` from the rows of the table that hold its outputs, by kind and in order.

    Raises ValueError where there are more or fewer of them than the sequence has places for.
    """
    slots = np.full(sequence.tokens.shape, -1, np.int32)
    for kind, parts in places.items():
        table = np.concatenate([np.zeros(0, np.int64), *parts])
        here = sequence.kinds == kind
        wanted = int(np.sum(here))
        if wanted != len(table):
            raise ValueError(
                f"example {number}: {len(table)} {kind.name.lower()} features: accepted is {wanted}, the places that "
                "its sequence has for them"
            )
        slots[here] = table[sequence.feature_index[here]]
    return slots
