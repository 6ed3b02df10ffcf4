"""Random access to the records of a published dataset, and the checks of its files."""

from collections.abc import Callable, Sequence
import functools
import operator
import os
import pathlib
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader
import numpy as np

from data_pipelines.shards import CHECKSUMS_FILE, CONFIG_FILE, LENGTHS_FILE, file_digest, read_json


class CorruptShardError(ValueError):
    """A shard file is missing, cut short or changed. The message names it and says what to do."""

    def __init__(self, path: pathlib.Path, what: str):
        super().__init__(f"shard {path} {what}: remove {path.parent} and build the dataset again")


class RecordSource(Sequence):
    """The records of one split, decoded one at a time: a data source for grain, and picklable for its workers."""

    def __init__(self, paths: Sequence[pathlib.Path], counts: Sequence[int], decode: Callable[[bytes], Any]):
        self._paths = tuple(paths)
        self._ends = np.cumsum(counts)
        self._decode = decode
        self._readers: dict[int, ArrayRecordReader] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {self!r}: accepted is 0 to {len(self) - 1}")
        index %= len(self)
        shard = int(np.searchsorted(self._ends, index, side="right"))
        try:
            if shard not in self._readers:
                self._readers[shard] = ArrayRecordReader(str(self._paths[shard]), "readahead_buffer_size:0")
            first = int(self._ends[shard - 1]) if shard else 0
            (record,) = self._readers[shard].read([index - first])
        except (IndexError, RuntimeError) as error:
            raise CorruptShardError(self._paths[shard], f"cannot be read at record {index - first}") from error
        return self._decode(record)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}}  # open files do not travel to other processes

    def __repr__(self) -> str:
        return f"RecordSource({len(self)} records in {len(self._paths)} shards, {self._paths[0].parent})"


class Dataset:
    """A published dataset: `config` (what it was built from), `splits` (names), `split(name)` and `lengths(name)`.

    Opening checks that every shard file is there with its size; `verify` reads them all.
    """

    def __init__(self, directory: str | os.PathLike, name: str, decode: Callable[[bytes], Any]):
        """Raises ValueError if `directory` holds no dataset `name`, CorruptShardError for a missing or cut shard."""
        self.directory = pathlib.Path(directory)
        self._decode = decode
        self.raw_config: dict[str, Any] = read_json(self.directory / CONFIG_FILE)
        self._shards: dict[str, dict[str, Any]] = read_json(self.directory / CHECKSUMS_FILE)
        for file, entry in self._shards.items():
            path = self.directory / file
            if not file.startswith(f"{name}-"):
                raise ValueError(f"{self.directory} holds {file}: accepted is a directory of {name}")
            size = path.stat().st_size if path.is_file() else None
            if size is None:
                raise CorruptShardError(path, "is missing")
            if size != entry["bytes"]:
                raise CorruptShardError(path, f"has {size} bytes, not {entry['bytes']}")

    @functools.cached_property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(entry["split"] for entry in self._shards.values()))

    def split(self, name: str) -> RecordSource:
        """The records of split `name`, in the order of their ids. Raises ValueError for an unknown split."""
        shards = {file: entry for file, entry in self._shards.items() if entry["split"] == self._known(name)}
        paths = [self.directory / file for file in shards]
        return RecordSource(paths, [entry["examples"] for entry in shards.values()], self._decode)

    def measures(self, name: str) -> dict[str, np.ndarray]:
        """What the records of split `name` measure, int64 [records] each, without reading them."""
        return {measure: np.array(values) for measure, values in self._lengths[self._known(name)].items()}

    def verify(self) -> None:
        """Reads every shard file and compares its sha256. Raises CorruptShardError for the first that differs."""
        for name, entry in self._shards.items():
            if file_digest(self.directory / name) != entry["sha256"]:
                raise CorruptShardError(self.directory / name, "does not have the sha256 it was written with")

    @functools.cached_property
    def _lengths(self) -> dict[str, dict[str, list[int]]]:
        return read_json(self.directory / LENGTHS_FILE)

    def _known(self, name: str) -> str:
        if name not in self.splits:
            raise ValueError(f"split {name!r} of {self.directory}: accepted is one of {', '.join(self.splits)}")
        return name
