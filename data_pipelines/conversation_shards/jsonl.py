"""Packs a JSON Lines file of conversations, whose media are files, into shards.

A line is `{"turns": T}`, and may have `"id"` (a text, each once), `"split"` (by default train) and `"metadata"` (an
object). T is as in `conversation_json`; media are paths, relative to the directory of the JSON Lines file. Blank lines
are passed over. Run as a module it is a worker of `data_pipelines.sharded_builder`.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import json
import os
import pathlib
from typing import Any

from data_pipelines.conversation_shards.conversation_json import turns_from_json
from data_pipelines.conversation_shards.dataset import ConversationDataset, build_conversations
from data_pipelines.conversation_shards.schema import ConversationRecord, encode_conversation
from data_pipelines.media.errors import MEDIA, MediaError
from data_pipelines.media.sources import MediaBytes
from data_pipelines.media_items import check_item
from data_pipelines.sharded_builder import ShardPlan
from data_pipelines.shards import SPLIT_NAMES, Shard, file_digest, is_split_name
from data_pipelines.workers import Records, serve_shards
from qomni_jax.sequence.chat import media_of

_KEYS = {"turns", "id", "split", "metadata"}
_LINE = '{"turns": a list}, which may have "id", "split" and "metadata"'
_RECORD_OVERHEAD = 2000  # bytes of a record that are not media


class LineError(ValueError):
    """A line of a JSON Lines file, or a file that it names, cannot be used. The message names both."""

    def __init__(self, source: pathlib.Path, number: int, what: object):
        super().__init__(f"{source}, line {number}: {what}")


@dataclasses.dataclass(frozen=True)
class Line:
    """Line `number`, from 1 on, starts at byte `offset`; its media files have `media_bytes` together."""

    number: int
    offset: int
    media_bytes: int


def index_lines(source: pathlib.Path) -> dict[str, list[Line]]:
    """The lines of each split. Reads the whole file, and of media files their sizes.

    Raises LineError for the first line that is not as above, repeats an id, or names a file that is not there;
    ValueError for a file that cannot be read or holds no line.
    """
    lines: dict[str, list[Line]] = {}
    numbers: dict[str, int] = {}
    try:
        with source.open("rb") as file:
            offset = 0
            for number, text in enumerate(file, 1):
                if text.strip():
                    split, record = _parse(source, number, text, lambda path, _: _size(path))
                    if record.id in numbers:
                        raise LineError(source, number, f"id {record.id!r} is that of line {numbers[record.id]} too")
                    numbers[record.id] = number
                    media_bytes = sum(item.source for item in media_of(record.turns))
                    lines.setdefault(split, []).append(Line(number, offset, media_bytes))
                offset += len(text)
    except OSError as error:
        raise ValueError(f"{source}: {error.strerror}; accepted is a readable file") from error
    if not lines:
        raise ValueError(f"{source} has no line: accepted is one conversation a line")
    return lines


def pack_conversations(
    source: str | os.PathLike, out_dir: str | os.PathLike, *, records_per_shard: int = 256, workers: int | None = None
) -> ConversationDataset:
    """Packs the conversations of a JSON Lines file into `out_dir` unless that is done, and opens them.

    Raises ValueError naming the first line found that cannot be used and its file, when nothing is in `out_dir` but
    finished shards that wait for the rest; as `build_conversations`; for a dataset there that holds other media.
    """
    if records_per_shard < 1:
        raise ValueError(f"records_per_shard = {records_per_shard!r}: accepted is a number greater than 0")
    path = pathlib.Path(source).absolute()
    lines = index_lines(path)
    dataset = build_conversations(_plan(path, lines, records_per_shard), out_dir, workers=workers)
    for split, own in lines.items():
        for line, packed in zip(own, dataset.measures(split)["media_bytes"], strict=True):
            if line.media_bytes != packed:
                what = f"its media have {line.media_bytes} bytes, and {packed} in {dataset.directory}"
                raise LineError(path, line.number, f"{what}: accepted is another directory, or removing that one first")
    return dataset


def _plan(path: pathlib.Path, lines: Mapping[str, list[Line]], records_per_shard: int) -> ShardPlan:
    def of(shard: Shard) -> list[Line]:
        return lines[shard.split][shard.start : shard.stop]

    return ShardPlan(
        made_from={"jsonl_sha256": file_digest(path), "records_per_shard": records_per_shard},
        splits={split: len(own) for split, own in lines.items()},
        per_shard=records_per_shard,
        unit="conversations",
        worker="data_pipelines.conversation_shards.jsonl",
        setup={"source": str(path)},
        expected_bytes=lambda shard: sum(line.media_bytes + _RECORD_OVERHEAD for line in of(shard)),
        details=lambda shard: {"lines": [(line.number, line.offset) for line in of(shard)]},
        is_current=lambda shard, noted: noted["lengths"]["media_bytes"] == [line.media_bytes for line in of(shard)],
    )


def pack_line(source: pathlib.Path, number: int, text: bytes) -> ConversationRecord:
    """The conversation of a line with the content of its media, each of which has been decoded.

    Raises LineError for a line that is not as above, or a media file that cannot be used.
    """
    _, record = _parse(source, number, text, _read)
    try:
        for item in media_of(record.turns):
            check_item(item)
    except MediaError as error:
        raise LineError(source, number, error) from error
    return record


def _parse(
    source: pathlib.Path, number: int, text: bytes, source_of: Callable[[pathlib.Path, str], Any]
) -> tuple[str, ConversationRecord]:
    """The split and the conversation of a line, in which `source_of` gives a media item's source from its path and
    name."""

    def named(path: Any) -> Any:
        if not isinstance(path, str) or not path:
            raise ValueError(f"media file {path!r}: accepted is a path relative to {source.parent}")
        return source_of(source.parent / path, path)

    try:
        fields = json.loads(text.strip())
        if not isinstance(fields, dict) or not {"turns"} <= fields.keys() <= _KEYS:
            raise ValueError(f"accepted is {_LINE}")
        split, name = fields.get("split", "train"), fields.get("id", f"line-{number:06d}")
        metadata = fields.get("metadata", {})
        if not isinstance(split, str) or not is_split_name(split):
            raise ValueError(f"split = {split!r}: accepted is {SPLIT_NAMES}")
        if not isinstance(name, str) or not isinstance(metadata, dict):
            raise ValueError(f"id = {name!r}, metadata = {metadata!r}: accepted is a text and an object")
        return split, ConversationRecord(name, turns_from_json(fields["turns"], named), metadata)
    except json.JSONDecodeError as error:
        what = f"is not JSON at column {error.colno} ({error.msg}): accepted is {_LINE}"
        raise LineError(source, number, what) from error
    except UnicodeDecodeError as error:
        raise LineError(source, number, f"is not UTF-8 at byte {error.start}: accepted is UTF-8 text") from error
    except RecursionError as error:
        raise LineError(source, number, f"is nested too deep: accepted is {_LINE}") from error
    except ValueError as error:
        raise LineError(source, number, error) from error


def _size(path: pathlib.Path) -> int:
    try:
        if not path.is_dir():
            return path.stat().st_size
    except OSError as error:
        raise MediaError(path, f"cannot be read ({error.strerror})", MEDIA) from error
    raise MediaError(path, "is a directory", MEDIA)


def _read(path: pathlib.Path, name: str) -> MediaBytes:
    try:
        return MediaBytes(path.read_bytes(), name)
    except OSError as error:
        raise MediaError(path, f"cannot be read ({error.strerror})", MEDIA) from error


def _start_worker(setup: dict[str, Any]) -> Callable[[Shard, dict[str, Any]], Records]:
    source = pathlib.Path(setup["source"])

    def records(shard: Shard, details: dict[str, Any]) -> Iterator[tuple[bytes, dict[str, int]]]:
        with source.open("rb") as file:
            for number, offset in details["lines"]:
                file.seek(offset)
                yield encode_conversation(pack_line(source, number, file.readline()))

    return records


if __name__ == "__main__":
    serve_shards(_start_worker)
