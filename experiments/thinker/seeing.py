"""The seeing stage: the vision encoder alone learns from captions, before the decoder reads it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.batching import BucketedBatches, make_loader
from data_pipelines.conversation_shards.dataset import ConversationDataset
from data_pipelines.conversations import ReadingConfig, read_conversation
from data_pipelines.rendered_media.builder import build_rendered_media
from data_pipelines.rendered_media.inputs import with_inputs
from experiments.thinker.config import SeeingStage
from experiments.thinker.media import captions_at, captions_of, load_seeing, reading_of
from experiments.thinker.stage import Report
from qomni_jax.config.training import VisionTrainingConfig
from qomni_jax.thinker.batch import bucket
from qomni_jax.thinker.storage import StoredThinker, Tokenizer, save_thinker
from qomni_jax.training.checkpoint import Checkpoints
from qomni_jax.training.loop import train
from qomni_jax.training.thinker_batch import label_table
from qomni_jax.training.vision_step import init_vision_state, make_vision_step
from qomni_jax.vision.patches import frame_rows

_TRIAL_BATCHES = 8  # from which the pictures of a batch are counted


def run(stage: SeeingStage, workdir: Path, report: Report) -> Path:
    """Trains, or goes on training, and returns the directory of the model: the Thinker with another vision encoder.

    Raises ValueError and OSError with one line that says what is wrong.
    """
    model = workdir / "model"
    checkpoints = Checkpoints(workdir, dataclasses.asdict(stage))
    if model.exists():
        report(f"{model} is there already")
        return model
    stored, params, tokenizer = load_seeing(stage.start_from)
    dataset = build_rendered_media(stage.media, workdir / "media")
    data = PictureData(dataset, stage.train_splits, stored, tokenizer, stage.training)
    state = train(
        init_vision_state(stored.config, stage.training, params["vision_encoder"]),
        make_vision_step(stored.config, stage.training),
        data.loader,
        steps=stage.training.steps,
        checkpoints=checkpoints,
        log_every=stage.training.log_every,
        checkpoint_every=stage.training.checkpoint_every,
        name="vision encoder",
        report=report,
    )
    checkpoints.close()
    save_thinker(model, stored, {**params, "vision_encoder": state.params["vision_encoder"]}, tokenizer)
    return model


class PictureData:
    """Batches for `training.vision_step`, any of them by its number: pictures, and the temporal patches of clips.

    A batch has as many rows as those of a trial took; pictures for which a later batch has no row are left out of it.
    """

    def __init__(
        self,
        dataset: ConversationDataset,
        splits: tuple[str, ...],
        stored: StoredThinker,
        tokenizer: Tokenizer,
        training: VisionTrainingConfig,
    ):
        self._records = [record for split in splits for record in dataset.split(split)]
        self._reading: ReadingConfig = reading_of(stored)
        self._tokenizer = tokenizer
        self._labels = max(len(caption) for record in self._records for caption in captions_of(record, tokenizer))
        count = len(self._records)
        self._batches = BucketedBatches(np.ones(count), training.batch_size, (1,), training.seed, pool_batches=1)
        rng = np.random.Generator(np.random.Philox(key=[training.seed, 2]))
        trials = [self._read(rng.choice(count, training.batch_size).tolist()) for _ in range(_TRIAL_BATCHES)]
        self._rows = bucket(max(len(pictures) for pictures, _ in trials))
        self._length = max(len(patches) for pictures, _ in trials for patches, _ in pictures)

    def loader(self, start_step: int) -> Any:
        """An endless iterator over batches from optimiser step `start_step` on."""
        return make_loader(range(len(self._records)), self.collate, self._batches, 0, start_step)

    def collate(self, chosen: list[int], longest: int, number: int) -> dict[str, np.ndarray]:
        """The batch of the records `chosen`."""
        del longest, number
        pictures, captions = self._read(chosen)
        patches, grids = frame_rows(pictures[: self._rows], rows=self._rows, length=self._length)
        labels = label_table(captions[: self._rows], (self._rows, self._labels), "caption")
        return {"patches": patches, "grids": grids, "captions": labels}

    def _read(self, chosen: list[int]) -> tuple[list[Any], list[np.ndarray]]:
        """Each temporal patch as an image `(patches, grid)`, and its caption."""
        pictures, captions = [], []
        for record in (self._records[index] for index in chosen):
            example = read_conversation(with_inputs(record.turns[:1], "video"), self._tokenizer, self._reading)
            for patches, (t, h, w) in (*example.images, *example.videos):
                pictures += [(picture, (1, h, w)) for picture in np.split(patches, t)]
            captions += captions_at(record, self._tokenizer, example.temporal_patches)
        return pictures, captions
