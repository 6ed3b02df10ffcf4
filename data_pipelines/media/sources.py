"""Where the readers of media read from: a file, or the bytes of one that are in memory already."""

import dataclasses
import io
import os
import pathlib
from typing import BinaryIO


@dataclasses.dataclass(frozen=True)
class MediaBytes:
    """The content of a media file, and the name by which errors call it."""

    data: bytes = dataclasses.field(repr=False)
    name: str


Source = str | os.PathLike | MediaBytes


def open_source(source: Source) -> BinaryIO:
    """The content, readable and seekable. Raises OSError for a file that cannot be opened."""
    return io.BytesIO(source.data) if isinstance(source, MediaBytes) else open(source, "rb")


def source_name(source: Source) -> str:
    """What errors call a source: its path, or its name."""
    return source.name if isinstance(source, MediaBytes) else os.fspath(source)


def ffmpeg_source(source: Source) -> str | BinaryIO:
    """What FFmpeg opens. Of a file its address, absolute and with its protocol: a name may hold colons."""
    return open_source(source) if isinstance(source, MediaBytes) else f"file:{pathlib.Path(source).absolute()}"
