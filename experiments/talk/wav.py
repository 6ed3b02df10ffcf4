"""A wav file that is written while its sound is being made."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self
import wave

import numpy as np

_FULL_SCALE = 32_767


def require_writable(path: Path) -> None:
    """Raises ValueError where no wav can be written."""
    if path.suffix.lower() != ".wav":
        raise ValueError(f"--out={path}: accepted is a file that ends in .wav")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"--out={path}: accepted is a file in a directory that is there and can be written to")


class WavStream:
    """Samples into `F.part.wav`, which is moved to `F.wav` when all of them are there; mono, 16 bits.

    The header is brought up to date with every piece, so the file can be played while it grows, and one that an
    interruption has left is whole up to its last piece. It has a name of its own until then, so that `F.wav` is always
    a whole answer. The format's 4 GiB are a day of sound at 24 kHz, far beyond any answer.

    Raises OSError where the file cannot be written.
    """

    def __init__(self, path: Path, sample_rate: int):
        self.path, self.part = path, path.with_name(f"{path.stem}.part{path.suffix}")
        self.sample_rate, self.samples = sample_rate, 0
        self._file = self.part.open("wb")
        self._writer = wave.open(self._file, "wb")  # noqa: SIM115 (closed by __exit__)
        self._writer.setnchannels(1)
        self._writer.setsampwidth(2)
        self._writer.setframerate(sample_rate)
        self.write(np.zeros(0, np.float32))

    def write(self, samples: np.ndarray) -> None:
        """Adds float samples `[n]` of full scale 1."""
        pcm = np.rint(np.clip(samples, -1.0, 1.0) * _FULL_SCALE).astype("<i2")
        self._writer.writeframes(pcm.tobytes())
        self._file.flush()
        self.samples += len(pcm)

    @property
    def seconds(self) -> float:
        """Of sound."""
        return self.samples / self.sample_rate

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._file.close()
        if error is None:
            os.replace(self.part, self.path)
        elif not self.samples:
            self.part.unlink()
