"""Where training figures go: a JSON line a record, TensorBoard when it is installed, one line of progress."""

from collections.abc import Mapping
import json
import os
from pathlib import Path
import time
from typing import IO, Any

import numpy as np


class MetricWriter:
    """Appends records to `metrics.jsonl` and TensorBoard scalars in a directory.

    A run that goes on after an interruption passes the step it starts from: later records are dropped first, so that a
    step stands once in the file.
    """

    def __init__(self, directory: str | os.PathLike[str], *, start_step: int = 0):
        from tensorboardX import SummaryWriter

        root = Path(directory)
        root.mkdir(parents=True, exist_ok=True)
        path = root / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= start_step]
            temporary = path.with_suffix(".partial")
            temporary.write_text("".join(line + "\n" for line in kept))
            os.replace(temporary, path)
        self._file: IO[str] = path.open("a")
        self._board = SummaryWriter(os.fspath(root / "tensorboard"), purge_step=start_step or None)

    def write(self, step: int, values: Mapping[str, float | list[float]]) -> None:
        """One record: `values` at `step`. A list is a list in the file and a histogram in TensorBoard."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, list):
                self._board.add_histogram(name, np.asarray(value), step)
            else:
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes both."""
        self._file.close()
        self._board.close()


def read_metrics(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl`, in order."""
    path = Path(directory) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Progress:
    """A line of progress with the time left."""

    def __init__(self, name: str, total: int, start: int = 0):
        self._name, self._total, self._start, self._began = name, total, start, time.monotonic()

    def line(self, step: int, **values: float) -> str:
        """`name step 100/1500 loss 2.31 left 3:20`."""
        rate = (time.monotonic() - self._began) / max(1, step - self._start)
        left = int(rate * (self._total - step))
        figures = " ".join(f"{name} {value:.3f}" for name, value in values.items())
        return f"{self._name} step {step}/{self._total} {figures} left {left // 60}:{left % 60:02d}"


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 62  # a half-written line is dropped
