"""Conversations and their media as one batch: what the encoders read, and where their outputs go."""

from collections.abc import Sequence
import itertools

import numpy as np

from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.sequence.assembly import OmniSequence
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.example import Example
from qomni_jax.thinker.model import Media
from qomni_jax.vision.patches import frame_rows


def place_media(examples: Sequence[Example], config: ThinkerConfig) -> tuple[Media | None, list[np.ndarray]]:
    """What the encoders read for all examples, None without media, and for each example its slots int32 `[T]`.

    Slots are rows of `MediaFeatures.table`. Sizes are rounded up (`bucket`), so that batches of like sizes share one
    compiled program; what stands in the padding is never read.

    Raises ValueError where an example's media do not fill the places that its sequence has for them.
    """
    frames = [item for e in examples for item in (*e.images, *e.videos)]
    recordings = [recording for e in examples for recording in e.recordings]
    patches = grids = features = lengths = None
    outputs_a_row = outputs_a_recording = rows = 0
    if frames and config.vision is not None:
        merged = config.vision.merged_patches
        outputs_a_row = bucket(max(h * w // merged for _, (_, h, w) in frames))
        rows = bucket(sum(t for _, (t, _, _) in frames))
        patches, grids = frame_rows(frames, rows=rows, length=outputs_a_row * merged)
    if recordings and config.audio is not None:
        chunk = config.audio.chunk_frames
        steps = bucket(max(-(-len(r) // chunk) for r in recordings)) * chunk
        features = np.zeros((bucket(len(recordings)), steps, config.audio.num_mels), np.float32)
        lengths = np.zeros(len(features), np.int32)
        for number, recording in enumerate(recordings):
            features[number, : len(recording)] = recording
            lengths[number] = len(recording)
        outputs_a_recording = config.audio.num_tokens(steps)
    row_starts = itertools.count(0, outputs_a_row)
    recording_starts = itertools.count(rows * outputs_a_row, outputs_a_recording)
    slots = []
    for number, example in enumerate(examples):
        places = {Kind.IMAGE: [], Kind.VIDEO: [], Kind.AUDIO: []}
        for kind, items in ((Kind.IMAGE, example.images), (Kind.VIDEO, example.videos)):
            for _, (t, h, w) in items:
                places[kind] += [next(row_starts) + np.arange(h * w // config.vision.merged_patches) for _ in range(t)]
        for recording in example.recordings:
            places[Kind.AUDIO].append(next(recording_starts) + np.arange(config.audio.num_tokens(len(recording))))
        slots.append(_slots(number, example.sequence, places))
    media = Media(patches, grids, features, lengths)
    return (media if frames or recordings else None), slots


def bucket(size: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: at most half as much again."""
    power = 1 << max(size - 1, 0).bit_length()
    return 3 * power // 4 if power >= 4 and size <= 3 * power // 4 else power


def _slots(number: int, sequence: OmniSequence, places: dict[Kind, list[np.ndarray]]) -> np.ndarray:
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
