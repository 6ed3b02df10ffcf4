"""Datasets of conversations: the tfds builder that every maker of them shares, and opening what it has built."""

import os
import pathlib

import tensorflow_datasets as tfds

from data_pipelines.conversation_shards.schema import conversation_features, decode_conversation
from data_pipelines.records import Dataset
from data_pipelines.sharded_builder import ShardedBuilder, ShardPlan, find_version


class Conversations(ShardedBuilder):
    """Conversations with the encoded bytes of their media, made as a plan says (`jsonl`, `rendered_media`)."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Conversations with the encoded bytes of their images, recordings and videos.",
            features=conversation_features(),
            disable_shuffling=True,
        )


class ConversationDataset(Dataset):
    """Built conversations: `splits`, `split(name)` (a random-access source of `ConversationRecord`) and
    `measures(name)` (`num_chars`, `num_media`, `media_bytes` of each record)."""

    def __init__(self, directory: pathlib.Path):
        super().__init__(directory, Conversations.name, decode_conversation)

    def summary(self) -> str:
        """A line for each split: its conversations, media, and megabytes of media."""
        lines = []
        for name in self.splits:
            measures = self.measures(name)
            megabytes = measures["media_bytes"].sum() / 1e6
            media = measures["num_media"].sum()
            lines.append(f"{name:16}{len(self.split(name)):8} conversations {media:8} media {megabytes:10.1f} MB")
        return "\n".join(lines)


def build_conversations(
    plan: ShardPlan, data_dir: str | os.PathLike, *, version: str = "1.0.0", workers: int | None = None
) -> ConversationDataset:
    """Builds `DATA_DIR/conversations/VERSION` unless it is there, and opens it. `workers` as in `ShardedBuilder`.

    Raises ValueError for a place that cannot be written to, too little room, a dataset made from something else in the
    same place, or a conversation that cannot be written.
    """
    builder = Conversations(plan=plan, version=version, data_dir=data_dir, workers=workers)
    builder.download_and_prepare()
    return ConversationDataset(builder.directory)


def open_conversations(data_dir: str | os.PathLike) -> ConversationDataset:
    """Opens the newest version in `data_dir` (or the version directory itself), checking that all its shards are there.

    Raises ValueError if there are no conversations, CorruptShardError for a missing or cut shard.
    """
    directory = find_version(data_dir, Conversations.name)
    if directory is None:
        raise ValueError(
            f"{data_dir} holds no conversations: accepted is what python -m data_pipelines.conversation_shards or "
            "python -m data_pipelines.rendered_media built"
        )
    return ConversationDataset(directory)
