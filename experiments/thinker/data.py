"""Conversations as the packed batches of a Thinker's training."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np

from data_pipelines.batching import BucketedBatches, make_loader
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.training import ThinkerTrainingConfig
from qomni_jax.sequence.example import Example
from qomni_jax.thinker.batch import NO_MEDIA, MediaShape, bucket
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
      labels: the most tokens of a transcript.
      media: frames of images and videos that a batch has room for, and tokens of each.
    """

    records: Sequence[Any]
    frames: np.ndarray
    read: Callable[[Any, np.random.Generator, int], Example]
    labels: int
    media: MediaShape = NO_MEDIA


class ThinkerData:
    """Batches for `training.thinker_step`, any of them by its number: the same whatever was read before.

    Each length of `recording_frames` has rows enough for the batches of a trial; conversations for which a later batch
    has no room are left out of it (its `conversations` counts those that are in).
    """

    def __init__(
        self, source: ConversationSource, config: ThinkerConfig, training: ThinkerTrainingConfig, pad_token: int
    ):
        """Raises ValueError for recordings longer than the longest of `recording_frames`, or too few records."""
        self._source, self._config, self._training, self._pad_token = source, config, training, pad_token
        # Drawn by number, not by length: packed rows waste nothing on company of other lengths.
        lengths = training.recording_frames
        self._batches = BucketedBatches(source.frames, training.batch_size, lengths, training.seed, pool_batches=1)
        self._rows = {frames: self._rows_for(frames) for frames in lengths}

    def loader(self, start_step: int) -> Any:
        """An endless iterator over batches from optimiser step `start_step` on."""
        return make_loader(self._source.records, self.collate, self._batches, num_workers=0, start_batch=start_step)

    def collate(self, records: Sequence[Any], longest: int, number: int) -> dict[str, np.ndarray]:
        """Batch `number`, whose recordings have at most `longest` frames."""
        examples, frames = self._read(records, longest, number)
        media = self._source.media._replace(recordings=bucket(len(records)), recording_frames=frames)
        shape = BatchShape(self._rows[frames], self._training.sequence_length, media, self._source.labels)
        return training_batch(examples, self._config, shape, pad_token=self._pad_token, number=number)

    def _read(self, records: Sequence[Any], longest: int, number: int) -> tuple[list[Example], int]:
        rng = np.random.Generator(np.random.Philox(key=[self._training.seed, 1], counter=[0, 0, 0, number]))
        frames = int(rng.choice([length for length in self._training.recording_frames if length >= longest]))
        return [self._source.read(record, rng, frames) for record in records], frames

    def _rows_for(self, frames: int) -> int:
        rng = np.random.Generator(np.random.Philox(key=[self._training.seed, 2]))
        fitting = np.flatnonzero(self._source.frames <= frames)
        size, most = self._training.batch_size, 1
        for _ in range(_TRIAL_BATCHES):
            chosen = rng.choice(fitting, size)
            examples = [self._source.read(self._source.records[int(i)], rng, frames) for i in chosen]
            most = max(most, rows_of(examples, self._training.sequence_length, self._pad_token))
        return most
