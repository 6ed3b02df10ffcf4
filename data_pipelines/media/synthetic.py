"""Long media made on the fly, block by block: a recording of tones and a video of moving bars."""

from fractions import Fraction
import os
from typing import Any

import av
import numpy as np
import soundfile

from data_pipelines.media.audio import SAMPLE_RATE

_BLOCK_SECONDS = 10
_BAR = 64  # pixels


def write_tones(path: str | os.PathLike, seconds: int) -> None:
    """A FLAC file, 16 kHz, mono: a chirp that starts anew every ten seconds, now louder, now softer."""
    time = np.arange(_BLOCK_SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    chirp = 8_000 * np.sin(2 * np.pi * (200 * time + 100 * time**2))
    loudness = [(chirp * (0.2 + 0.2 * step)).astype(np.int16) for step in range(5)]
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC", compression_level=0.0) as file:
        for number, start in enumerate(range(0, seconds, _BLOCK_SECONDS)):
            block = loudness[number * 7 % 5 if number % 3 else number % 5]
            file.write(block[: (seconds - start) * SAMPLE_RATE])


def write_bars(path: str | os.PathLike, frames: int, height: int, width: int, fps: int = 1) -> None:
    """An mp4 file (H.264): grey bars that move a little to the right in every frame."""
    ramp = np.arange(width + frames) // _BAR * 48 % 256
    with av.open(os.fspath(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            row = ramp[frames - number : frames - number + width].astype(np.uint8)
            picture = np.concatenate([np.tile(row, (height, 1)), np.full((height // 2, width), 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
