"""How many samples a sound track has, from its packets.

Exact without decoding for: PCM, FLAC, Vorbis and ALAC where the container's clock ticks in samples (wav, flac, ogg,
m4a, mp4), and for MP3, Opus and AAC-LC in any container, whose packets tell their own size. Decoded in constant memory
for the rest: PCM, FLAC and Vorbis in webm and mkv, whose clock ticks in milliseconds, other kinds of AAC, and other
codecs.
"""

from collections.abc import Callable
import os
import struct

import av
from av.container import InputContainer
from av.stream import Stream

from data_pipelines.media.containers import audio_stream, open_media, select
from data_pipelines.media.errors import AUDIO, MediaError

# Samples at 48 kHz of a frame, by the configuration in the first five bits of an Opus packet (RFC 6716, 3.1).
_OPUS_FRAMES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4


def native_samples(path: str | os.PathLike) -> int:
    """Samples per channel of the first sound track, at its own sample rate, encoder delay and padding left out.

    Raises:
      MediaError: as `open_media`; no sound track; fewer samples than the file promises.
    """
    with open_media(path, AUDIO) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError(path, "has no sound track", AUDIO)
        select(container, stream)
        duration_of = _packet_duration(stream)
        if duration_of is None:
            return _within_edit(container, stream, sum(frame.samples for frame in container.decode(stream)))
        found, gapless = _count(container, stream, duration_of)
        promised = _promised(stream, gapless)
        if found < promised:
            raise MediaError(path, f"is cut short, it holds {found} of {promised} samples", AUDIO)
        return _within_edit(container, stream, found)


def _count(container: InputContainer, stream: Stream, duration_of: Callable[[av.Packet], int]) -> tuple[int, bool]:
    """Samples of the track's packets less those to be skipped, and whether any at the start are."""
    vorbis = stream.codec_context.name == "vorbis"
    total, first, last, gapless = 0, 0, None, False
    for packet in container.demux(stream):
        if not packet.size or packet.is_discard:
            continue
        total += duration_of(packet)
        first, last = first or duration_of(packet), packet
        if packet.has_sidedata("skip_samples"):
            start, end = struct.unpack_from("<II", bytes(packet.get_sidedata("skip_samples")))
            gapless |= start > 0
            # An Ogg page shortens its last Vorbis packet by the same number.
            total += end if vorbis else -start - end
    if vorbis:
        # The first packet gives no sound, it prepares the second.
        total -= first
    elif last is not None and "mp4" in container.format.name and stream.time_base * stream.rate == 1:
        total -= max(duration_of(last) - (last.duration or duration_of(last)), 0)
    return max(total, 0), gapless


def _packet_duration(stream: Stream) -> Callable[[av.Packet], int] | None:
    """The function that tells the samples of a packet, None where only decoding tells."""
    context = stream.codec_context
    codec = context.codec.canonical_name
    if codec == "opus":
        return _opus_samples
    if codec == "mp3" or (codec == "aac" and context.profile == "LC"):
        return lambda packet: context.frame_size
    if stream.time_base * stream.rate == 1 and (codec in ("flac", "vorbis", "alac") or codec.startswith("pcm_")):
        return lambda packet: packet.duration
    return None


def _opus_samples(packet: av.Packet) -> int:
    head = bytes(packet)[:2]
    frames = (1, 2, 2, head[1] & 0x3F if len(head) > 1 else 0)[head[0] & 0x03]
    return frames * _OPUS_FRAMES[head[0] >> 3]


def _promised(stream: Stream, gapless: bool) -> int:
    """Samples that a flac header or an mp3 file's first frame states, 0 if it states none."""
    codec = stream.codec_context.codec.canonical_name
    if codec == "flac":
        return int.from_bytes(bytes(stream.codec_context.extradata or b"")[13:18], "big") & (1 << 36) - 1
    # Without that frame FFmpeg guesses a duration from the bit rate; the delay to skip is stated in the same place.
    if codec == "mp3" and gapless and stream.duration is not None and stream.container.format.name == "mp3":
        return round(stream.duration * stream.time_base * stream.rate)
    return 0


def _within_edit(container: InputContainer, stream: Stream, samples: int) -> int:
    """The samples less the padding behind the end that an mp4 file's edit list or an Ogg stream's last page sets."""
    states_end = "mp4" in container.format.name or manual_skip(container, stream)
    if not states_end or not stream.duration:
        return samples
    return min(samples, round(stream.duration * stream.time_base * stream.rate))


def manual_skip(container: InputContainer, stream: Stream) -> bool:
    """Whether FFmpeg must be kept from dropping samples, and the first frame be dropped instead.

    FFmpeg takes the start of a short Ogg Vorbis stream for its first packet, which gives no sound, and drops as much of
    the end.
    """
    return container.format.name == "ogg" and stream.codec_context.name == "vorbis"
