"""How many samples a sound track has, from its packets.

Exact without decoding for: PCM, FLAC, Vorbis and ALAC where the container's clock ticks in samples (wav, flac, ogg,
m4a, mp4), and for MP3, Opus and AAC-LC in any container, whose packets tell their own size. Decoded in constant memory
for the rest: PCM, FLAC and Vorbis in webm and mkv, whose clock ticks in milliseconds, other kinds of AAC, and other
codecs.
"""

from collections.abc import Callable
import functools
import struct

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from data_pipelines.media.containers import open_media, require_audio, select, tick
from data_pipelines.media.errors import AUDIO, MediaError
from data_pipelines.media.sources import Source

# Hz. What lies outside is a damaged header, and could ask for any amount of memory.
_RATES = (1_000, 768_000)
# Kilobits a second of a layer III frame, by the index in its header: MPEG-1, and the lower sample rates of MPEG-2.
_MP3_KBPS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
# Samples at 48 kHz of a frame, by the configuration in the first five bits of an Opus packet (RFC 6716, 3.1).
_OPUS_FRAMES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4


def native_samples(source: Source) -> int:
    """Samples per channel of the first sound track, at its own sample rate, encoder delay and padding left out.

    Raises:
      MediaError: as `open_media`; no sound track; fewer samples than the file promises; a sample rate that no sound
        has. An mp3 file without a Xing frame promises nothing: a cut between two of its frames is not seen.
    """
    with open_media(source, AUDIO) as container:
        stream = require_audio(source, container)
        if not _RATES[0] <= stream.rate <= _RATES[1]:
            raise MediaError(source, f"has {stream.rate} samples a second", AUDIO)
        select(container, stream)
        duration_of = _packet_duration(source, stream)
        if duration_of is None:
            return _within_stated_end(container, stream, sum(frame.samples for frame in container.decode(stream)))
        found, gapless = _count(container, stream, duration_of)
        promised = _promised(stream, gapless)
        if found < promised:
            raise MediaError(source, f"is cut short, it holds {found} of {promised} samples", AUDIO)
        return _within_stated_end(container, stream, found)


def _count(container: InputContainer, stream: AudioStream, duration_of: Callable[[av.Packet], int]) -> tuple[int, bool]:
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
    elif last is not None and "mp4" in container.format.name and tick(stream) * stream.rate == 1:
        total -= max(duration_of(last) - (last.duration or duration_of(last)), 0)
    return max(total, 0), gapless


def _packet_duration(source: Source, stream: AudioStream) -> Callable[[av.Packet], int] | None:
    """The function that tells the samples of a packet, None where only decoding tells."""
    context = stream.codec_context
    codec = context.codec.canonical_name
    if codec == "opus":
        return _opus_samples
    if codec == "mp3":
        return functools.partial(_mp3_samples, source)
    if codec == "aac" and context.profile == "LC":
        return lambda packet: context.frame_size
    if tick(stream) * stream.rate == 1 and (codec in ("flac", "vorbis", "alac") or codec.startswith("pcm_")):
        return lambda packet: packet.duration or 0
    return None


def _opus_samples(packet: av.Packet) -> int:
    head = bytes(packet)[:2]
    frames = (1, 2, 2, head[1] & 0x3F if len(head) > 1 else 0)[head[0] & 0x03]
    return frames * _OPUS_FRAMES[head[0] >> 3]


def _mp3_samples(source: Source, packet: av.Packet) -> int:
    """Samples of a layer III frame (ISO 11172-3, 2.4.2.3), none of a tag."""
    head = bytes(packet)[:3]
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or head[2] >= 0xF0:
        return 0
    low = not head[1] & 0x08
    kbps = _MP3_KBPS[low][head[2] >> 4]
    size = (72_000 if low else 144_000) * kbps // packet.stream.rate + (head[2] >> 1 & 1)
    if packet.size < size:
        raise MediaError(source, f"is cut short, a frame has {packet.size} of {size} bytes", AUDIO)
    return 576 if low else 1152


def _promised(stream: AudioStream, gapless: bool) -> int:
    """Samples that a flac header or an mp3 file's first frame states, 0 if it states none."""
    codec = stream.codec_context.codec.canonical_name
    if codec == "flac":
        return int.from_bytes(bytes(stream.codec_context.extradata or b"")[13:18], "big") & (1 << 36) - 1
    # Without that frame FFmpeg guesses a duration from the bit rate; the delay to skip is stated in the same place.
    if codec == "mp3" and gapless and stream.duration is not None and stream.container.format.name == "mp3":
        return round(stream.duration * tick(stream) * stream.rate)
    return 0


def _within_stated_end(container: InputContainer, stream: AudioStream, samples: int) -> int:
    """The samples less the padding behind the end that an mp4 file's edit list or an Ogg stream's last page sets."""
    states_end = "mp4" in container.format.name or manual_skip(container, stream)
    if not states_end or not stream.duration:
        return samples
    return min(samples, round(stream.duration * tick(stream) * stream.rate))


def manual_skip(container: InputContainer, stream: AudioStream) -> bool:
    """Whether FFmpeg must be kept from dropping samples, and the first frame be dropped instead.

    FFmpeg takes the start of a short Ogg Vorbis stream for its first packet, which gives no sound, and drops as much of
    the end.
    """
    return container.format.name == "ogg" and stream.codec_context.name == "vorbis"
