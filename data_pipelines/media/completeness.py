"""Whether a file reaches the end that its headers promise.

FFmpeg reads what is there and stops, so a file that is cut short looks like a shorter one. Containers that state their
size are held to it here, without reading more than headers; flac and mp3 files state samples, which
`sample_count` compares.
"""

import os
from typing import BinaryIO

from data_pipelines.media.sources import Source, open_source

# An Ogg page has at most a header of 27 bytes, 255 segments and their 255 bytes each.
_OGG_PAGE = 27 + 255 + 255 * 255


def missing_part(source: Source, name: str) -> str | None:
    """What is missing from a wav, ogg, mp4 or matroska file, in words; None if it is complete or of another format.

    Not seen: a cut in what was written as a live stream, of unknown size (wav and webm allow it).
    """
    checks = {"wav": _wav, "ogg": _ogg, "mp4": _mp4, "matroska": _matroska}
    if name not in checks:
        return None
    with open_source(source) as file:
        return checks[name](file, file.seek(0, os.SEEK_END))


def _wav(file: BinaryIO, size: int) -> str | None:
    position, long_data = 12, None
    while position + 8 <= size:
        file.seek(position)
        kind, length = file.read(4), int.from_bytes(file.read(4), "little")
        if kind == b"ds64":
            long_data = int.from_bytes(file.read(16)[8:], "little")
        if kind == b"data":
            if length == 0xFFFFFFFF:
                if long_data is None:
                    return None
                length = long_data
            return _compare("the samples", position + 8 + length, size)
        position += 8 + length + length % 2
    return "it has no samples"


def _mp4(file: BinaryIO, size: int) -> str | None:
    position, kinds = 0, set()
    while position < size:
        file.seek(position)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:], "big")
        if length == 0:
            length = size - position
        if length < 8 or len(kind) < 4:
            break
        kinds.add(kind)
        position += length
    if b"moov" not in kinds:
        return "it has no table of contents (moov)"
    return _compare(f"the last box ({kind.decode('latin-1')})", position, size)


def _matroska(file: BinaryIO, size: int) -> str | None:
    file.seek(4)
    file.seek(_vint(file) or 0, os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return "it has no segment"
    length = _vint(file)
    return None if length is None else _compare("the segment", file.tell() + length, size)


def _vint(file: BinaryIO) -> int | None:
    """An EBML size: the first set bit tells how many bytes it has; all other bits set is an unknown size."""
    first = int.from_bytes(file.read(1), "big")
    extra = 8 - max(first.bit_length(), 1)
    value = (first & (1 << (7 - extra)) - 1) << 8 * extra | int.from_bytes(file.read(extra), "big")
    return None if value == (1 << 7 * (extra + 1)) - 1 else value


def _ogg(file: BinaryIO, size: int) -> str | None:
    file.seek(max(size - _OGG_PAGE, 0))
    tail = file.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    segments = page[26] if len(page) > 26 else 0
    if len(page) < 27 + segments + sum(page[27 : 27 + segments]):
        return "its last page is incomplete"
    return None if page[5] & 0x04 else "it has no last page"


def _compare(what: str, end: int, size: int) -> str | None:
    return f"{what} would end at byte {end} and the file ends at {size}" if end > size else None
