"""The media stage: a Thinker that hears learns to answer questions about rendered pictures and clips."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.conversation_shards.dataset import ConversationDataset
from data_pipelines.conversation_shards.schema import ConversationRecord
from data_pipelines.conversations import ReadingConfig, read_conversation
from data_pipelines.rendered_media.builder import build_rendered_media
from experiments.thinker.config import MediaStage
from experiments.thinker.data import ConversationSource
from experiments.thinker.stage import Report, Start, run_stage
from qomni_jax.sequence.example import Example
from qomni_jax.thinker.storage import StoredThinker, Tokenizer, load_thinker


def run(stage: MediaStage, workdir: Path, report: Report) -> Path:
    """Trains, or goes on training, and returns the directory of the model; errors as those of `run_stage`."""

    def prepare() -> tuple[Start, ConversationSource]:
        stored, params, tokenizer = load_seeing(stage.start_from)
        dataset = build_rendered_media(stage.media, workdir / "media")
        return Start(stored, tokenizer, params), media_source(stage, stored, tokenizer, dataset)

    return run_stage(stage, stage.training, workdir, report, prepare)


def load_seeing(directory: str) -> tuple[StoredThinker, Any, Tokenizer]:
    """A stored Thinker. Raises ValueError for one that cannot hear and see."""
    stored, params, tokenizer = load_thinker(directory)
    if tokenizer is None or stored.config.vision is None or stored.config.audio is None:
        raise ValueError(f"{directory}: accepted is a Thinker with tokenizer.json that hears and sees")
    return stored, params, tokenizer


def media_source(
    stage: MediaStage, stored: StoredThinker, tokenizer: Tokenizer, dataset: ConversationDataset
) -> ConversationSource:
    """The training splits as conversations."""
    reading = reading_of(stored)
    records = [record for split in stage.train_splits for record in dataset.split(split)]
    longest = reading.features.num_frames(stage.media.max_seconds * reading.features.sample_rate)
    return ConversationSource(
        records,
        np.full(len(records), longest),
        functools.partial(_read, tokenizer=tokenizer, reading=reading),
        max(len(_transcript(record, tokenizer)) for record in records),
        max(len(caption) for record in records for caption in captions_of(record, tokenizer)),
    )


def reading_of(stored: StoredThinker) -> ReadingConfig:
    """How a stored Thinker reads files."""
    return ReadingConfig(stored.config.audio, stored.features, stored.image, sequence=stored.sequence)


def _read(
    record: ConversationRecord, rng: np.random.Generator, frames: int, *, tokenizer: Tokenizer, reading: ReadingConfig
) -> Example:
    del frames  # clips are as long as they are
    example = read_conversation(record.turns, tokenizer, reading, rng=rng)
    return example._replace(
        transcripts=[_transcript(record, tokenizer)] * len(example.recordings),
        captions=captions_at(record, tokenizer, example.temporal_patches),
    )


def captions_of(record: ConversationRecord, tokenizer: Tokenizer) -> list[np.ndarray]:
    """What the picture shows, or a clip one after the other."""
    shown = record.metadata["shown"]
    if isinstance(shown, dict):
        shown = " ".join(shown.values())
    return [tokenizer.encode_text(text) for text in ([shown] if isinstance(shown, str) else shown)]


def captions_at(record: ConversationRecord, tokenizer: Tokenizer, patches: int) -> list[np.ndarray]:
    """Of each temporal patch: the picture's, or of a clip what is shown at its time."""
    captions, since = captions_of(record, tokenizer), record.metadata.get("since", (0,))
    seconds = record.metadata.get("seconds", 1) / patches  # of a temporal patch
    return [captions[np.searchsorted(since, number * seconds, side="right") - 1] for number in range(patches)]


def _transcript(record: ConversationRecord, tokenizer: Tokenizer) -> np.ndarray:
    return tokenizer.encode_text(record.metadata.get("said", ""))
