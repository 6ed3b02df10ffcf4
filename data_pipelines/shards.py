"""Shards of records: planned, written once each, staged beside the target until all are there, then published together.

A shard is one array_record file with a JSON of the same name beside it in the staging directory. The JSON is written
last, so a shard is finished when its JSON is there; whatever was interrupted is written again. Published datasets hold
`checksums.json` (bytes, sha256, examples of every shard file) and `lengths.json` (per split, what its records measure).
"""

from collections.abc import Iterable, Iterator, Mapping
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
from typing import Any

from array_record.python.array_record_module import ArrayRecordWriter

CHECKSUMS_FILE = "checksums.json"
CONFIG_FILE = "config.json"
LENGTHS_FILE = "lengths.json"
SPLIT_NAMES = "lower-case letters, digits and _, starting with a letter, and not 'all'"

# One record a group: records are read in random order. Audio and codes hardly compress, and read 8 times faster plain.
_WRITER_OPTIONS = "group_size:1,uncompressed"


@dataclasses.dataclass(frozen=True)
class Shard:
    """Records `start` to `stop` (exclusive) of `split`: shard `index` of `count`, in a file named the tfds way."""

    dataset: str
    split: str
    index: int
    count: int
    start: int
    stop: int

    @property
    def file_name(self) -> str:
        return f"{self.dataset}-{self.split}.array_record-{self.index:05d}-of-{self.count:05d}"

    def __len__(self) -> int:
        return self.stop - self.start


def plan_shards(dataset: str, splits: Mapping[str, int], per_shard: int) -> list[Shard]:
    """The shards of `splits` (name -> records), each of at most `per_shard` records."""
    shards = []
    for split, records in splits.items():
        count = -(-records // per_shard)
        for index in range(count):
            start = index * per_shard
            shards.append(Shard(dataset, split, index, count, start, min(start + per_shard, records)))
    return shards


def is_split_name(name: str) -> bool:
    """Whether tfds takes a split of this name."""
    return bool(re.fullmatch(r"[a-z][a-z0-9_]*", name)) and name != "all"


def config_digest(config: Mapping[str, Any]) -> str:
    """A short name for what a dataset is made of: equal configs share one, and with it their staged shards."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def check_same_config(directory: pathlib.Path, config: Mapping[str, Any], ignored: Iterable[str] = ()) -> None:
    """Raises ValueError naming the first field, but for `ignored`, in which the dataset in `directory` differs."""
    existing, wanted = read_json(directory / CONFIG_FILE), json.loads(json.dumps(config))
    for name in ignored:
        existing.pop(name, None)
        wanted.pop(name, None)
    if difference := _first_difference(existing, wanted, ""):
        field, old, new = difference
        raise ValueError(
            f"{directory} was built with {field} = {old!r}, not {new!r}: accepted is the same config, another "
            "directory or version, or removing that one first"
        )


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes `text` to `path` through a temporary file and a rename, so that a reader sees all of it or none."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def read_json(path: pathlib.Path) -> Any:
    """What a dataset's own JSON file holds. Raises ValueError naming the file when it cannot be read."""
    accepted = f"accepted is a complete dataset: remove {path.parent} and build it again, or name another directory"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; {accepted}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON; {accepted}") from error


def file_digest(path: pathlib.Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Staging:
    """The directory where the shards of one dataset wait until all are finished.

    It lies beside `target` on the same file system, named after the config: a build that was interrupted finds its
    shards again, and a build with another config does not. One process at a time builds in it.
    """

    def __init__(self, target: pathlib.Path, config: Mapping[str, Any]):
        self.config = dict(config)
        self.target = target
        self.path = target.parent / f".staging_{target.name}_{config_digest(config)}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the directory and holds it. Raises ValueError if it cannot be made or another process holds it."""
        with writing_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"{self.path} is being built by another process: accepted is one at a time") from error
            yield

    def check_space(self, needed_bytes: int) -> None:
        """Raises ValueError if the file system has less room than `needed_bytes`."""
        free = shutil.disk_usage(self.path).free
        if free < needed_bytes:
            raise ValueError(
                f"{self.path.parent} has {free / 1e6:.0f} MB free: accepted is at least {needed_bytes / 1e6:.0f} MB, "
                "what the missing shards are expected to need"
            )

    def finished(self, shard: Shard) -> dict[str, Any] | None:
        """What `write_shard` noted of a finished shard, or None if it has to be written."""
        path = self.path / shard.file_name
        with contextlib.suppress(OSError, ValueError):
            entry = json.loads(path.with_suffix(path.suffix + ".json").read_text(encoding="utf-8"))
            if path.stat().st_size == entry["bytes"] and entry["examples"] == len(shard):
                return entry
        return None

    def noted(self, shard: Shard) -> dict[str, Any]:
        """As `finished`, of a shard that is. Raises ValueError when its files were changed behind the build's back."""
        entry = self.finished(shard)
        if entry is None:
            raise ValueError(f"{self.path / shard.file_name} was changed while it waited: build the dataset again")
        return entry

    def missing(self, shards: Iterable[Shard]) -> list[Shard]:
        """The shards that have to be written, or written again because their file has changed."""
        entries = {shard: self.finished(shard) for shard in shards}
        return [
            shard
            for shard, entry in entries.items()
            if entry is None or file_digest(self.path / shard.file_name) != entry["sha256"]
        ]

    def publish(self, shards: Iterable[Shard], directory: pathlib.Path) -> None:
        """Moves the shards, all finished, to `directory` with checksums, lengths and config, and clears the staging.

        Raises ValueError if the disk is full.
        """
        entries = {shard: self.noted(shard) for shard in shards}
        lengths: dict[str, dict[str, list[int]]] = {}
        for shard, entry in entries.items():
            for name, values in entry["lengths"].items():
                lengths.setdefault(shard.split, {}).setdefault(name, []).extend(values)
        checksums = {
            shard.file_name: {"split": shard.split, **{name: entry[name] for name in ("bytes", "sha256", "examples")}}
            for shard, entry in entries.items()
        }
        with writing_to(directory):
            directory.mkdir(parents=True, exist_ok=True)
            write_text(directory / CONFIG_FILE, json.dumps(self.config, indent=2, ensure_ascii=False))
            write_text(directory / LENGTHS_FILE, json.dumps(lengths))
            write_text(directory / CHECKSUMS_FILE, json.dumps(checksums, indent=1))
            for shard in entries:
                os.replace(self.path / shard.file_name, directory / shard.file_name)
        shutil.rmtree(self.path)

    def publish_target(self, shards: Iterable[Shard]) -> None:
        """`publish` to a directory that becomes `target`, which is absent or empty, when it is complete."""
        complete = self.path.with_name(self.path.name + "_complete")
        self.publish(shards, complete)
        with writing_to(self.target):
            os.replace(complete, self.target)


def write_shard(directory: pathlib.Path, shard: Shard, records: Iterable[tuple[bytes, Mapping[str, int]]]) -> None:
    """Writes the records of one shard, each with what it measures, into a staging directory.

    Raises ValueError, leaving no finished shard, when the file cannot be written.
    """
    path = directory / shard.file_name
    partial = path.with_suffix(path.suffix + ".partial")
    lengths: dict[str, list[int]] = {}
    count = 0
    try:
        with writing_to(path):
            writer = ArrayRecordWriter(str(partial), _WRITER_OPTIONS)
        for record, measures in records:
            with writing_to(path):
                writer.write(record)
            for name, value in measures.items():
                lengths.setdefault(name, []).append(int(value))
            count += 1
        with writing_to(path):
            writer.close()
            size, digest = partial.stat().st_size, file_digest(partial)
            os.replace(partial, path)
            entry = {"bytes": size, "sha256": digest, "examples": count, "lengths": lengths}
            write_text(path.with_suffix(path.suffix + ".json"), json.dumps(entry))
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_to(path: pathlib.Path) -> Iterator[None]:
    """Turns the ways in which a file system refuses a write into one ValueError that names `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot write {path}: {reason}; accepted is a writable directory with room") from error
    except RuntimeError as error:  # what array_record raises for one
        reason = str(error).partition(";")[0]
        raise ValueError(f"cannot write {path}: {reason}; accepted is a writable directory with room") from error


def _first_difference(old: Any, new: Any, name: str) -> tuple[str, Any, Any] | None:
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(f"{name}.{key}" if name else key, old.get(key), new.get(key)) for key in {**old, **new}]
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return f"number of {name}", len(old), len(new)
        pairs = [(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(old, new, strict=True))]
    else:
        return None if old == new else (name, old, new)
    differences = (_first_difference(a, b, field) for field, a, b in pairs)
    return next((difference for difference in differences if difference), None)
