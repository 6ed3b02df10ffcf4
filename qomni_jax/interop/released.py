"""A released checkpoint on disk: config.json and the headers of its safetensors files, or a list of its keys."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import os
from pathlib import Path
import re
from typing import Any

import numpy as np

from qomni_jax.interop.safetensors_file import DTYPES, SafetensorsFile, TensorInfo
from qomni_jax.storage.errors import CheckpointError, listing
from qomni_jax.storage.files import read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_KEY_LINE = re.compile(r"(?P<name>\S+)\s+\[(?P<shape>[\d, ]*)\](?:\s+(?P<dtype>\S+))?")
_TORCH_DTYPES = {"torch.float32": "F32", "torch.bfloat16": "BF16", "torch.float16": "F16", "torch.int64": "I64"}


class Released:
    """Config and tensors of one checkpoint; `tensors` comes from headers alone, data is read through `open`.

    Attributes:
      source: the paths, for messages.
      config: config.json as it stands; None where only tensors are at hand.
      tensors: name -> dtype, shape and place; the dtype is "" in a list of keys that does not tell.
      files: name -> the file that holds it; empty for a list of keys.
    """

    def __init__(
        self,
        source: str,
        config: dict[str, Any] | None,
        tensors: Mapping[str, TensorInfo],
        files: Mapping[str, Path] | None = None,
    ):
        self.source = source
        self.config = config
        self.tensors = dict(tensors)
        self.files = dict(files or {})

    @contextlib.contextmanager
    def open(self) -> Iterator["Reader"]:
        """Opens the files for reading; raises CheckpointError when there are none."""
        if not self.files:
            raise CheckpointError(f"{self.source}: a list of keys holds no weights: accepted is a checkpoint directory")
        with contextlib.ExitStack() as stack:
            handles = {path: stack.enter_context(SafetensorsFile(path)) for path in sorted(set(self.files.values()))}
            yield Reader({name: handles[path] for name, path in self.files.items()})


class Reader:
    """Rows of a released checkpoint's tensors."""

    def __init__(self, files: Mapping[str, SafetensorsFile]):
        self._files = files

    def read(self, name: str) -> np.ndarray:
        """The whole tensor."""
        return self._files[name].read(name)

    def read_rows(self, name: str, first: int, last: int) -> np.ndarray:
        """`tensor[first:last]`."""
        return self._files[name].read_rows(name, first, last)


def read_released(paths: Sequence[str | os.PathLike[str]], config: str | os.PathLike[str] | None = None) -> Released:
    """Opens a checkpoint directory or a list of keys; of several, each adds its tensors to the ones before.

    A directory without config.json whose info.json names a `base` (Qwen3.5's multi-token-prediction weights kept
    apart) is opened on top of the directory of that name beside it.

    Raises CheckpointError naming the file and what is wrong with it.
    """
    parts = [_read_one(path) for given in paths for path in _with_base(Path(given))]
    merged = Released(" + ".join(part.source for part in parts), None, {})
    for part in parts:
        twice = sorted(merged.tensors.keys() & part.tensors.keys())
        if twice:
            raise CheckpointError(f"{merged.source}: {listing({'in two of these': twice})}")
        merged.config = merged.config or part.config
        merged.tensors.update(part.tensors)
        merged.files.update(part.files)
    if config is not None:
        merged.config = read_json(Path(config))
    return merged


def _with_base(path: Path) -> list[Path]:
    info = path / "info.json"
    if not (path / "config.json").exists() and info.is_file():
        base = read_json(info).get("base")
        if isinstance(base, str) and (path.parent / Path(base).name).is_dir():
            return [path.parent / Path(base).name, path]
    return [path]


def _read_one(path: Path) -> Released:
    if path.is_file():
        return _read_keys(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: accepted is a checkpoint directory, or a text file of keys and shapes")
    config = read_json(path / "config.json") if (path / "config.json").exists() else None
    ours = str((config or {}).get("format"))
    if ours.startswith("qomni_jax"):
        raise CheckpointError(f"{path}: holds a {ours!r} alone: accepted is a checkpoint with what is asked for")
    if (path / INDEX).exists():
        return Released(str(path), config, *_read_shards(path))
    with SafetensorsFile(path / SINGLE) as file:
        return Released(str(path), config, file.tensors, dict.fromkeys(file.tensors, file.path))


def _read_shards(directory: Path) -> tuple[dict[str, TensorInfo], dict[str, Path]]:
    index = read_json(directory / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CheckpointError(f"{directory / INDEX}: weight_map: accepted is a mapping of tensor names to files")
    tensors: dict[str, TensorInfo] = {}
    files: dict[str, Path] = {}
    missing, extra = [], []
    for shard in sorted(set(index.values())):
        listed = {name for name, file in index.items() if file == shard}
        with SafetensorsFile(directory / Path(shard).name) as file:
            missing += [f"{name} (in {shard})" for name in sorted(listed - file.tensors.keys())]
            extra += [f"{name} (in {shard})" for name in sorted(file.tensors.keys() - listed)]
            tensors.update(file.tensors)
            files.update(dict.fromkeys(file.tensors, file.path))
    if missing or extra:
        raise CheckpointError(f"{directory}: against {INDEX}: {listing({'missing': missing, 'extra': extra})}")
    return tensors, files


def _read_keys(path: Path) -> Released:
    tensors = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        match = _KEY_LINE.fullmatch(line.strip())
        if not match:
            raise CheckpointError(
                f"{path}:{number}: {line[:60]!r}: accepted is a name, a tab and a shape such as [2, 3]"
            )
        dtype = _TORCH_DTYPES.get(match["dtype"] or "", match["dtype"] or "")
        if dtype and dtype not in DTYPES:
            raise CheckpointError(f"{path}:{number}: dtype {dtype}: accepted is one of {', '.join(DTYPES)}")
        shape = tuple(int(size) for size in match["shape"].replace(",", " ").split())
        tensors[match["name"]] = TensorInfo(dtype, shape)
    beside = [path.with_name(path.name.removesuffix(".keys.txt") + ".config.json"), path.with_name("config.json")]
    found = next((candidate for candidate in beside if candidate.exists()), None)
    return Released(str(path), read_json(found) if found else None, tensors)
