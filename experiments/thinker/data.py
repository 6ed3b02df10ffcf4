"""Conversations as the packed batches of a Thinker's training."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np

from data_pipelines.batching import BucketedBatches, make_loader
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.training import ThinkerTrainingConfig
from qomni_jax.sequence.example import Example, Grid
from qomni_jax.thinker.batch import MediaShape, bucket
from qomni_jax.training.thinker_batch import BatchShape, rows_of, training_batch

_TRIAL_BATCHES = 8  # from which the rows of a batch are counted


@dataclasses.dataclass(frozen=True)
class ConversationSource:
    """Where training examples come from.

    Attributes:
      records: in any order, each as `read` takes it.
      frames: int `[records]`, feature frames of the longest recording of each.
      read: `read(record, rng, frames)` is the example, its recordings no longer than `frames` feature frames; what it
        draws, it draws from `rng`.
      labels, captions: the most tokens of a transcript and of a caption.
    """

    records: Sequence[Any]
    frames: np.ndarray
    read: Callable[[Any, np.random.Generator, int], Example]
    labels: int
    captions: int = 0


class ThinkerData:
    """Batches for `training.thinker_step`, any of them by its number: the same whatever was read before.

    Each length of `recording_frames` has rows enough for the batches of a trial, and room for their images and videos.
    Conversations for which a later batch has no row are left out of it (its `conversations` counts those that are in).
    """

    def __init__(
        self, source: ConversationSource, config: ThinkerConfig, training: ThinkerTrainingConfig, pad_token: int
    ):
        """Raises ValueError for recordings longer than the longest of `recording_frames`, or too few records."""
        self._source, self._config, self._training, self._pad_token = source, config, training, pad_token
        # Drawn by number, not by length: packed rows waste nothing on company of other lengths.
        lengths = training.recording_frames
        self._batches = BucketedBatches(source.frames, training.batch_size, lengths, training.seed, pool_batches=1)
        self._shapes = {frames: self._shape_for(frames) for frames in lengths}

    def loader(self, start_step: int) -> Any:
        """An endless iterator over batches from optimiser step `start_step` on."""
        return make_loader(self._source.records, self.collate, self._batches, num_workers=0, start_batch=start_step)

    def collate(self, records: Sequence[Any], longest: int, number: int) -> dict[str, np.ndarray]:
        """Batch `number`, whose recordings have at most `longest` frames."""
        examples, frames = self._read(records, longest, number)
        return training_batch(examples, self._config, self._shapes[frames], pad_token=self._pad_token, number=number)

    def _read(self, records: Sequence[Any], longest: int, number: int) -> tuple[list[Example], int]:
        rng = np.random.Generator(np.random.Philox(key=[self._training.seed, 1], counter=[0, 0, 0, number]))
        frames = int(rng.choice([length for length in self._training.recording_frames if length >= longest]))
        return [self._source.read(record, rng, frames) for record in records], frames

    def _shape_for(self, frames: int) -> BatchShape:
        rng = np.random.Generator(np.random.Philox(key=[self._training.seed, 2]))
        fitting = np.flatnonzero(self._source.frames <= frames)
        size, length, source = self._training.batch_size, self._training.sequence_length, self._source
        shape = BatchShape(1, length, MediaShape(0, 0, bucket(size), frames), source.labels, source.captions)
        for _ in range(_TRIAL_BATCHES):
            chosen = rng.choice(fitting, size)
            examples = [source.read(source.records[int(i)], rng, frames) for i in chosen]
            grids = [grid for e in examples for _, grid in (*e.images, *e.videos)]
            rows = max(shape.rows, rows_of(examples, length, self._pad_token))
            shape = shape._replace(rows=rows, media=_with_room(shape.media, grids, self._config))
        return shape


def _with_room(media: MediaShape, grids: Sequence[Grid], config: ThinkerConfig) -> MediaShape:
    if config.vision is None or not grids:
        return media
    tokens = max(h * w for _, h, w in grids) // config.vision.merged_patches
    return media._replace(
        frames=max(media.frames, bucket(sum(t for t, _, _ in grids))),
        frame_tokens=max(media.frame_tokens, bucket(tokens)),
    )
