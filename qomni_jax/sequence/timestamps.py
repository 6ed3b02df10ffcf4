"""Time as text: `<12.5 seconds>` before each temporal patch of a video and here and there in audio; and time as ids."""

from collections.abc import Sequence
import math
import re

import numpy as np

from qomni_jax.config.sequence import SequenceConfig

_TIMESTAMP = re.compile(r"<(\d+\.\d) seconds>")
_ROUNDING = 1e-6  # of a cell: a time on the border of two cells may come out just below it


def format_timestamp(seconds: float) -> str:
    """A time from 0 on as text, to a tenth of a second (Qwen3-VL, Qwen3.5)."""
    return f"<{seconds:.1f} seconds>"


def parse_timestamps(text: str) -> list[float]:
    """The times, in seconds, of all timestamps in `text`."""
    return [float(time) for time in _TIMESTAMP.findall(text)]


def parse_timestamped_words(text: str) -> tuple[list[str], list[float]]:
    """Words of `text`, and for each the last timestamp before it, in seconds (NaN where there is none yet)."""
    first, *rest = _TIMESTAMP.split(text)  # text, then times and the text after each in turns
    words = first.split()
    times = [math.nan] * len(words)
    for time, piece in zip(rest[::2], rest[1::2], strict=True):
        found = piece.split()
        words += found
        times += [float(time)] * len(found)
    return words, times


def patch_times(frame_times: Sequence[float], temporal_patch: int = 2) -> np.ndarray:
    """Times `[ceil(F / temporal_patch)]`, seconds, of temporal patches from those of their frames `[F]`: the mean of a
    patch's first and last frame, where the last frame fills up the last patch (Qwen3-VL)."""
    times = np.asarray(frame_times, np.float64)
    first = times[::temporal_patch]
    last = times[np.minimum(np.arange(len(first)) * temporal_patch + temporal_patch - 1, len(times) - 1)]
    return (first + last) / 2


def regular_patch_times(patches: int, seconds_per_patch: float) -> np.ndarray:
    """Times `[patches]` of evenly spaced temporal patches by their starts (Qwen3-Omni: temporal patch / fps)."""
    return np.arange(patches) * seconds_per_patch


def temporal_id(seconds: float, config: SequenceConfig) -> float:
    """A media item's time from its start as a temporal id from its start: on the grid that of the cell it falls in,
    else a fraction (float32, as the ancestor computes it)."""
    if config.temporal_ids == "grid":
        return math.floor(seconds * config.ids_per_second + _ROUNDING)
    return float(np.float32(seconds) * np.float32(config.ids_per_second))


def audio_timestamps(num_tokens: int, config: SequenceConfig, rng: np.random.Generator | None) -> list[int]:
    """The audio tokens, increasing, none of them the first, before which a timestamp is written.

    Intervals are drawn from `config.audio_timestamp_range` in training, where there is an `rng`, and are
    `config.audio_timestamp_interval` at inference, where it is None.
    """
    rate = config.audio_tokens_per_second
    duration = num_tokens / rate
    if rng is None:
        times = np.arange(1, int(duration / config.audio_timestamp_interval) + 1) * config.audio_timestamp_interval
    else:
        least, greatest = config.audio_timestamp_range
        times = np.cumsum(rng.uniform(least, greatest, int(duration / least) + 1))
    tokens = np.unique(np.round(times * rate).astype(np.int64))
    return [int(token) for token in tokens if 0 < token < num_tokens]
