"""The safetensors format, read and written in pieces.

The library's own reader maps a file into memory and its writer wants every tensor of a file at once. Here a tensor is
read and written a block of rows at a time, so that a checkpoint never needs more host memory than its destination.
Layout: eight bytes with the length of a JSON header, the header (name -> dtype, shape, offsets), the data.
"""

from collections.abc import Iterable, Mapping
import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from qomni_jax.storage.errors import CheckpointError

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MAX_HEADER_BYTES = 100_000_000


class TensorInfo(NamedTuple):
    """What a header says of a tensor; `start` counts bytes from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class SafetensorsFile:
    """An open file: `tensors` from its header, and their data on demand.

    Raises CheckpointError when the file is not whole: its header must describe its bytes exactly.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read ({error.strerror})") from None
        try:
            self.tensors = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "SafetensorsFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, name: str) -> np.ndarray:
        """The whole tensor."""
        info = self.tensors[name]
        if not info.shape:
            return self._read(info, 0, 1).reshape(())
        return self.read_rows(name, 0, info.shape[0])

    def read_rows(self, name: str, first: int, last: int) -> np.ndarray:
        """`tensor[first:last]`."""
        info = self.tensors[name]
        row = math.prod(info.shape[1:])
        return self._read(info, first * row, (last - first) * row).reshape(last - first, *info.shape[1:])

    def _read(self, info: TensorInfo, first: int, count: int) -> np.ndarray:
        dtype = DTYPES[info.dtype]
        data = np.empty(count * dtype.itemsize, np.uint8)
        self._file.seek(info.start + first * dtype.itemsize)
        if self._file.readinto(data.data) != data.size:
            raise CheckpointError(f"{self.path}: truncated while it was read")
        return data.view(dtype)

    def _read_header(self) -> dict[str, TensorInfo]:
        file_bytes = self.path.stat().st_size
        start = self._file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(_MAX_HEADER_BYTES, file_bytes - 8):
            raise CheckpointError(f"{self.path}: truncated, or not a safetensors file ({file_bytes} bytes)")
        try:
            header = json.loads(self._file.read(length))
            header.pop("__metadata__", None)
            infos = {name: _info(entry, 8 + length) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{self.path}: the header is not that of a safetensors file ({error})") from None
        end = 8 + length
        for name, (info, stop) in sorted(infos.items(), key=lambda item: item[1][0].start):
            if info.start != end or stop - info.start != info.size * DTYPES[info.dtype].itemsize:
                raise CheckpointError(f"{self.path}: {name}: its bytes do not fit its shape {list(info.shape)}")
            end = stop
        if end != file_bytes:
            state = "truncated" if file_bytes < end else "too long"
            raise CheckpointError(f"{self.path}: {state}: {file_bytes} bytes, the header describes {end}")
        return {name: info for name, (info, _) in infos.items()}


def _info(entry: Any, data_start: int) -> tuple[TensorInfo, int]:
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"dtype {entry['dtype']}: accepted is one of {', '.join(DTYPES)}")
    first, last = entry["data_offsets"]
    return TensorInfo(entry["dtype"], tuple(map(int, entry["shape"])), data_start + first), data_start + last


def write(path: Path, tensors: Mapping[str, TensorInfo], blocks: Iterable[np.ndarray]) -> None:
    """Writes a file: its header from `tensors` (in that order), its data from `blocks`.

    `blocks` gives consecutive pieces of every tensor, in the order of `tensors`; only one piece is held at a time.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, info in tensors.items():
        end = offset + info.size * DTYPES[info.dtype].itemsize
        header[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for block in blocks:
            file.write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
        written = file.tell() - 8 - len(text)
    if written != offset:
        raise AssertionError(f"{path}: {written} bytes of data for {offset} in the header")
