"""What a file is by its content, whatever its name says, and opening it with FFmpeg.

The kind is told from the first bytes, and FFmpeg is held to it: its own guessing goes by the name too, and takes
playlists and scripts, which may read other files, for media.
"""

from collections.abc import Iterator
import contextlib
from fractions import Fraction
from typing import cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from data_pipelines.media.completeness import missing_part
from data_pipelines.media.errors import AUDIO, MEDIA, VIDEO, MediaError
from data_pipelines.media.sources import Source, ffmpeg_source, open_source

IMAGES = ("png", "jpeg", "webp")
# The name of FFmpeg's demuxer.
_DEMUXERS = {"wav": "wav", "flac": "flac", "mp3": "mp3", "ogg": "ogg", "mp4": "mp4", "matroska": "matroska"}


def media_format(source: Source, accepted: str = MEDIA) -> str:
    """One of png, jpeg, webp, wav, flac, mp3, ogg, mp4 (m4a and mov too), matroska (webm too), from the content.

    Raises:
      MediaError: no such file, an empty one, or content that is none of these.
    """
    try:
        with open_source(source) as file:
            head = file.read(16)
            if head[:3] == b"ID3" and len(head) >= 10:
                # The tag's size, in 7 bits a byte, is that of what follows its 10 bytes; a flac file may have one too.
                file.seek(
                    10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
                )
                return "flac" if file.read(4) == b"fLaC" else "mp3"
    except OSError as error:
        raise MediaError(source, f"cannot be read ({error.strerror})", accepted) from error
    if not head:
        raise MediaError(source, "is empty", accepted)
    found = _format_of(head)
    if found is None:
        raise MediaError(source, f"is no media file, it starts with {head[:8]!r}", accepted)
    return found


@contextlib.contextmanager
def open_media(source: Source, accepted: str) -> Iterator[InputContainer]:
    """An FFmpeg container of a sound or video file; what FFmpeg raises inside the `with` becomes a MediaError.

    Raises:
      MediaError: as `media_format`; an image; a file that ends before the end that its headers promise, or that FFmpeg
        cannot read.
    """
    name = media_format(source, accepted)
    if name in IMAGES:
        raise MediaError(source, f"is a {name} image", accepted)
    missing = missing_part(source, name)
    if missing is not None:
        raise MediaError(source, f"is cut short, {missing}", accepted)
    try:
        # Titles and the like are in any encoding, and of no interest here.
        with av.open(ffmpeg_source(source), "r", format=_DEMUXERS[name], metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        raise MediaError(source, f"is a damaged {name} file ({error.strerror})", accepted) from error


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The first sound track of a codec that FFmpeg knows, if there is one."""
    return next((stream for stream in container.streams.audio if stream.codec_context is not None), None)


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first video track of a codec that FFmpeg knows that is not a cover picture, if there is one."""
    tracks = (stream for stream in container.streams.video if stream.codec_context is not None)
    return next((stream for stream in tracks if not stream.disposition & Disposition.attached_pic), None)


def require_audio(source: Source, container: InputContainer) -> AudioStream:
    """The sound track. Raises MediaError if there is none."""
    stream = audio_stream(container)
    if stream is None:
        raise MediaError(source, "has no sound track", AUDIO)
    return stream


def require_video(source: Source, container: InputContainer) -> VideoStream:
    """The video track. Raises MediaError if there is none."""
    stream = video_stream(container)
    if stream is None:
        raise MediaError(source, "has no video track", VIDEO)
    return stream


def select(container: InputContainer, stream: Stream) -> None:
    """Lets the demuxer pass over every other track."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all


def clock_start(container: InputContainer) -> float:
    """Seconds of the file's own clock at which its first track starts: time zero of sound and pictures alike."""
    tracks = (audio_stream(container), video_stream(container))
    return min(start_seconds(stream) for stream in tracks if stream is not None)


def start_seconds(stream: Stream) -> float:
    """Seconds of the file's own clock at which the track starts, encoder delay left out."""
    return float((stream.start_time or 0) * tick(stream))


def tick(stream: Stream) -> Fraction:
    """Seconds between two times of the track's own clock."""
    return cast(Fraction, stream.time_base)


def _format_of(head: bytes) -> str | None:
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    for start, name in (
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
        (b"\x1a\x45\xdf\xa3", "matroska"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff", "jpeg"),
    ):
        if head.startswith(start):
            return name
    # A frame of MPEG layer III: eleven bits of synchronisation, a version, and the layer.
    is_mp3 = len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[1] & 0x18 != 0x08 and head[2] < 0xF0
    return "mp3" if is_mp3 else None
