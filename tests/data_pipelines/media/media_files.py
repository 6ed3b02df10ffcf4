"""Small media files, made on the fly: a second of two tones, a grey video whose frames tell their number."""

from collections.abc import Sequence
from fractions import Fraction
import pathlib
from typing import Any

import av
import numpy as np
import soundfile

MILLISECOND = Fraction(1, 1000)
WIDTH, HEIGHT = 64, 48
# Grey levels between frames; a lossy codec changes far less.
STEP = 10


def tones(samples: int, rate: int, channels: int = 1) -> np.ndarray:
    """A chirp in every channel, each channel louder than the one before, float32 `[channels, samples]`."""
    time = np.arange(samples) / rate
    chirp = np.sin(2 * np.pi * (200 * time + 300 * time**2))
    return (0.4 * np.arange(1, channels + 1)[:, None] / channels * chirp).astype(np.float32)


def write_sound(
    path: pathlib.Path, codec: str, samples: np.ndarray, rate: int, layout: str, **options: str
) -> pathlib.Path:
    """Encodes `[channels, n]` with FFmpeg's `codec`, or with libsndfile where `codec` is a subtype such as PCM_U8.

    `options` are those of FFmpeg's container.
    """
    if codec.isupper() or codec.startswith("PCM"):
        soundfile.write(path, samples.T, rate, subtype=codec)
        return path
    with av.open(str(path), "w", options=options) as container:
        encode_sound(container, container.add_stream(codec, rate=rate, layout=layout), samples, rate, layout, 0)
    return path


def encode_sound(container, stream, samples: np.ndarray, rate: int, layout: str, first: int) -> None:
    resampler = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate)
    for start in range(0, samples.shape[1], 1000):
        part = np.ascontiguousarray(samples[:, start : start + 1000].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(part, "flt", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, first + start, Fraction(1, rate)
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))
    container.mux(stream.encode(None))


def remux(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """Copies the packets of the only track into another container."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams[0]
        copy = writer.add_stream_from_template(stream)
        for packet in reader.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                writer.mux(packet)
    return target


def write_video(
    path: pathlib.Path,
    milliseconds: Sequence[int],
    codec: str = "libx264",
    sound: tuple[str, int, int] | None = None,
    **options: str,
) -> pathlib.Path:
    """Frame i is shown at `milliseconds[i]`, grey of level 16 + STEP * i; `sound` is (codec, samples, first sample)."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10, options={"g": "6", **options})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 1_000_000
        stream.codec_context.time_base = MILLISECOND
        if sound is not None:
            name, samples, first = sound
            track = container.add_stream(name, rate=48_000, layout="stereo")
        for number, time in enumerate(milliseconds):
            pixels = np.full((HEIGHT, WIDTH, 3), 16 + STEP * number, np.uint8)
            # Darker on the left: what is turned is seen.
            pixels[:, : WIDTH // 4] = 0
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = time, MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            encode_sound(container, track, tones(samples, 48_000, 2), 48_000, "stereo", first)
    return path


def number_of(image: np.ndarray) -> int:
    """The number that `write_video` gave the frame."""
    return round((float(image[10:-10, image.shape[1] // 2 :].mean()) - 16) / STEP)
