"""Sound files and the sound of videos, as 16 kHz mono float32: whole, or block by block in constant memory.

Channels are averaged, the low-frequency one too. The sample at index i is heard i / 16000 s after the file's first
track starts: where the pictures start earlier, silence comes first. A file is opened by its content, whatever its name.
"""

from collections.abc import Generator, Iterable, Iterator
import itertools

from av import AudioFrame, AudioResampler
from av.audio.stream import AudioStream
from av.codec.context import Flags2
from av.container import InputContainer
import numpy as np
import soxr

from data_pipelines.media.containers import clock_start, open_media, require_audio, select, start_seconds
from data_pipelines.media.errors import AUDIO, MediaError
from data_pipelines.media.sample_count import manual_skip, native_samples
from data_pipelines.media.sources import Source

SAMPLE_RATE = 16_000
_BLOCK_SIZE = 10 * SAMPLE_RATE
# PyAV converts no 64-bit integers, and misreads this many planes: it looks for the end of a list that has room for 8.
_PLANES = 8


def read_audio(source: Source) -> np.ndarray:
    """The first sound track of a file, float32 `[n]` at 16 kHz.

    Raises:
      MediaError: as `audio_blocks`.
    """
    return np.concatenate(list(audio_blocks(source)))


def audio_blocks(source: Source, block_size: int = _BLOCK_SIZE) -> Generator[np.ndarray]:
    """The same samples as `read_audio` in blocks of `block_size`, float32 `[block_size]`, the last one shorter.

    Packets are counted before the first block, so that a file that is cut short gives no block. Damage inside is found
    while decoding.

    Raises:
      MediaError: the file is missing, empty, no media, without a sound track or without a sample, cut short, or
        damaged: it cannot be decoded, decodes to another number of samples than it states, changes its sample rate, or
        holds a float that is not finite.
    """
    count = native_samples(source)
    with open_media(source, AUDIO) as container:
        stream = require_audio(source, container)
        rate, lead = stream.rate, _leading_silence(container, stream)
        if not resampled_length(count, rate):
            raise MediaError(source, "has no samples", AUDIO)
        select(container, stream)
        silence = (np.zeros(min(rate, lead - start), np.float32) for start in range(0, lead, rate))
        native = itertools.chain(silence, _decoded(source, container, stream, count))
        yield from _blocks_of(_resampled(native, rate), block_size)


def num_samples(source: Source) -> int:
    """The number of samples that `read_audio` gives, from packets alone where `sample_count` can; 0 without a sample.

    Raises:
      MediaError: as `native_samples`.
    """
    count = native_samples(source)
    with open_media(source, AUDIO) as container:
        stream = require_audio(source, container)
        if not resampled_length(count, stream.rate):
            return 0
        return resampled_length(count + _leading_silence(container, stream), stream.rate)


def resampled_length(samples: int, rate: int) -> int:
    """Samples at 16 kHz of `samples` samples at `rate` Hz: the nearest number, halves up, as soxr gives."""
    return (2 * samples * SAMPLE_RATE + rate) // (2 * rate)


def _leading_silence(container: InputContainer, stream: AudioStream) -> int:
    """Samples, at the track's own rate, between the start of the file and that of its sound track."""
    return round((start_seconds(stream) - clock_start(container)) * stream.rate)


def _decoded(source: Source, container: InputContainer, stream: AudioStream, count: int) -> Iterator[np.ndarray]:
    """The first `count` samples of the track, mono, at its own sample rate."""
    if stream.codec_context.name == "flac":
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    frames = container.decode(stream)
    if manual_skip(container, stream):
        stream.codec_context.flags2 |= Flags2.skip_manual
        next(frames, None)
    left = count
    for frame in frames:
        if frame.sample_rate != stream.rate:
            raise MediaError(source, f"changes its sample rate from {stream.rate} to {frame.sample_rate} Hz", AUDIO)
        samples = _mono(frame)[:left]
        if frame.is_corrupt or not np.isfinite(samples).all():
            raise MediaError(source, f"is damaged at sample {count - left}", AUDIO)
        left -= len(samples)
        yield samples
    if left:
        raise MediaError(source, f"is damaged, {count - left} of its {count} samples can be decoded", AUDIO)


def _mono(frame: AudioFrame) -> np.ndarray:
    """The average of a frame's channels, float32 `[samples]`, full scale 1."""
    many_planes = frame.format.is_planar and len(frame.layout.channels) >= _PLANES
    if many_planes or frame.format.name.startswith("s64"):
        (frame,) = AudioResampler(format="flt").resample(frame)
    samples = frame.to_ndarray()
    channels: np.ndarray = samples if frame.format.is_planar else samples.reshape(frame.samples, -1).T
    if channels.dtype == np.uint8:
        return (channels.mean(axis=0, dtype=np.float32) - 128.0) / 128.0
    scale = 1.0 if channels.dtype.kind == "f" else float(np.iinfo(channels.dtype).max) + 1.0
    return (channels.mean(axis=0, dtype=np.float64) / scale).astype(np.float32)


def _resampled(blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _blocks_of(parts: Iterable[np.ndarray], block_size: int) -> Iterator[np.ndarray]:
    """The same samples in blocks of `block_size`, the last one shorter."""
    held: list[np.ndarray] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part)
        while count >= block_size:
            joined = np.concatenate(held)
            yield joined[:block_size]
            held, count = [joined[block_size:]], count - block_size
    if count:
        yield np.concatenate(held)
