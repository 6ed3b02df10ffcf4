"""A record of a shard: the turns of a conversation, the bytes of its media, an id and free metadata."""

from collections.abc import Mapping
import dataclasses
import functools
import json
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.conversation_shards.conversation_json import turns_from_json, turns_to_json
from data_pipelines.media.sources import MediaBytes
from data_pipelines.serialization import decode_example, encode_example
from qomni_jax.sequence.chat import Text, Turn, media_of


@dataclasses.dataclass(frozen=True)
class ConversationRecord:
    """A conversation whose media are in memory: each item's source is a `MediaBytes`. `metadata` is a JSON object."""

    id: str
    turns: tuple[Turn, ...]
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@functools.cache
def conversation_features() -> tfds.features.FeaturesDict:
    """The features of a record; `turns` is JSON as in `conversation_json`, with numbers of `media`."""
    media = {"name": tfds.features.Text(), "data": tfds.features.Scalar(np.object_, doc="content of a media file")}
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "turns": tfds.features.Text(doc="JSON"),
            "metadata": tfds.features.Text(doc="a JSON object"),
            "media": tfds.features.Sequence(media),
        }
    )


def encode_conversation(record: ConversationRecord) -> tuple[bytes, dict[str, int]]:
    """A record, and what it measures: `num_chars` of its texts, `num_media`, and their `media_bytes` together."""
    sources: list[MediaBytes] = [item.source for item in media_of(record.turns)]
    numbers = iter(range(len(sources)))
    example = {
        "id": record.id,
        "turns": _json(turns_to_json(record.turns, lambda _: next(numbers))),
        "metadata": _json(record.metadata),
        "media": {"name": [source.name for source in sources], "data": [source.data for source in sources]},
    }
    texts = [part.text for turn in record.turns for part in turn.content if isinstance(part, Text)]
    measures = {
        "num_chars": sum(map(len, texts)),
        "num_media": len(sources),
        "media_bytes": sum(len(source.data) for source in sources),
    }
    return encode_example(conversation_features(), example), measures


def decode_conversation(record: bytes) -> ConversationRecord:
    """The inverse of `encode_conversation`."""
    example = decode_example(conversation_features(), record)
    media = example["media"]
    sources = [MediaBytes(data, name) for data, name in zip(media["data"], media["name"], strict=True)]
    turns = turns_from_json(json.loads(example["turns"]), lambda number: sources[number])
    return ConversationRecord(example["id"], turns, json.loads(example["metadata"]))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
