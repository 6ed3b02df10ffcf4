"""Which frames of a video are looked at."""

import dataclasses

import numpy as np

from qomni_jax.config import validation

_TEMPORAL_PATCH = 2


@dataclasses.dataclass(frozen=True)
class FrameSampling:
    """Frames a video: as many as `fps` gives, but `min_frames` to `max_frames`, and no more than it has.

    The released ancestors (Qwen3-VL, Qwen3.5) take 2 a second, 4 to 768.

    Attributes:
      fps: frames a second.
      min_frames: even; the fewest, where the video has them.
      max_frames: even; the most.
    """

    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768

    def __post_init__(self):
        validation.check_types(self)
        validation.require_positive(self, "fps", "min_frames", "max_frames")
        for field in ("min_frames", "max_frames"):
            validation.require(getattr(self, field) % _TEMPORAL_PATCH == 0, self, field, "an even number")
        validation.require(self.min_frames <= self.max_frames, self, "min_frames", f"at most {self.max_frames}")


def sample_times(duration: float, frames: int, sampling: FrameSampling) -> np.ndarray:
    """Times, in seconds from the first frame, at which a video of `frames` frames is looked at: float64 `[even]`.

    They are spread evenly from the first frame to the last of a video of constant rate that ends after `duration`
    seconds. A temporal patch takes two frames, so the last time is given twice where the number is odd (the ancestors
    repeat the last frame).
    """
    count = min(max(int(duration * sampling.fps), sampling.min_frames), sampling.max_frames, frames)
    times = np.linspace(0.0, duration * (frames - 1) / frames, count)
    return np.append(times, times[count - count % _TEMPORAL_PATCH :])


def nearest(frame_times: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Index of the frame nearest to each of `times`, the earlier of two, int `[len(times)]`; `frame_times` ascends."""
    after = np.searchsorted(frame_times, times).clip(1, max(len(frame_times) - 1, 1))
    before = after - 1
    if len(frame_times) == 1:
        return np.zeros(len(times), np.int64)
    return np.where(times - frame_times[before] <= frame_times[after] - times, before, after)
