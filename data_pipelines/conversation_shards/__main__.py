"""Packs conversations with their media into shards: `python -m data_pipelines.conversation_shards --source=F --out=D`.

F is JSON Lines (`jsonl` says what a line holds); D becomes a tensorflow-datasets directory. Run again after an
interruption it continues. With --verify nothing is packed: the shards in D are read and their checksums compared.
"""

from typing import Any

from absl import app, flags

from data_pipelines.command import build_or_verify, verified
from data_pipelines.conversation_shards.dataset import open_conversations
from data_pipelines.conversation_shards.jsonl import pack_conversations

_SOURCE = flags.DEFINE_string("source", None, "JSON Lines file, one conversation a line")
_OUT = flags.DEFINE_string("out", None, "directory for the shards", required=True)
_WORKERS = flags.DEFINE_integer("workers", None, "worker processes; by default one a core", lower_bound=1)
_PER_SHARD = flags.DEFINE_integer("records_per_shard", 256, "conversations of a shard, at most", lower_bound=1)
_VERIFY = flags.DEFINE_bool("verify", False, "pack nothing; read the shards in --out and compare their checksums")


def main(_: list[str]) -> None:
    build_or_verify("conversation_shards", _build, lambda dataset: dataset.summary())


def _build() -> tuple[Any, str]:
    if _VERIFY.value:
        return verified(open_conversations(_OUT.value))
    if not _SOURCE.value:
        raise ValueError("--source is missing: accepted is a JSON Lines file, or --verify")
    packed = pack_conversations(_SOURCE.value, _OUT.value, records_per_shard=_PER_SHARD.value, workers=_WORKERS.value)
    return packed, "packed"


if __name__ == "__main__":
    app.run(main)
