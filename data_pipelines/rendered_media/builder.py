"""Builds rendered media: conversation shards, in parallel, resumable, checksummed."""

import dataclasses
import importlib.metadata
import os

from data_pipelines.conversation_shards.dataset import ConversationDataset, build_conversations
from data_pipelines.rendered_media.config import RenderedMediaConfig
from data_pipelines.sharded_builder import ShardPlan
from data_pipelines.shards import Shard

# Generously, in bytes: what a pixel of a picture takes, and a pixel and a second of a clip.
_PICTURE_PIXEL, _CLIP_PIXEL, _CLIP_SECOND = 1, 1, 30_000
_LIBRARIES = ("pillow", "av", "espeakng_loader")


def build_rendered_media(
    config: RenderedMediaConfig, data_dir: str | os.PathLike, workers: int | None = None
) -> ConversationDataset:
    """Builds the conversations in `data_dir` unless they are there, and opens them. `workers` processes, one a core if
    None. The same config gives the same bytes with the same versions of Pillow, PyAV and eSpeak NG.

    Raises ValueError as `build_conversations`.
    """
    return build_conversations(_plan(config), data_dir, version=config.version, workers=workers)


def _plan(config: RenderedMediaConfig) -> ShardPlan:
    def expected_bytes(shard: Shard) -> int:
        split, pixels = config.split(shard.split), config.side**2
        pictures = max(min(shard.stop, split.pictures) - shard.start, 0)
        return pictures * pixels * _PICTURE_PIXEL + (len(shard) - pictures) * config.max_seconds * (
            pixels * _CLIP_PIXEL + _CLIP_SECOND
        )

    return ShardPlan(
        made_from={
            "rendered_media": dataclasses.asdict(config),
            "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        ignored=("libraries",),
        splits={split.name: split.records for split in config.splits},
        per_shard=config.records_per_shard,
        unit="conversations",
        worker="data_pipelines.rendered_media.rendering",
        setup={"config": dataclasses.asdict(config)},
        expected_bytes=expected_bytes,
    )
