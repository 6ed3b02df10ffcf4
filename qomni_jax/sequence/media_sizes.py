"""Sizes of media items: all that a sequence needs to know of them, and how they follow from a file's header."""

from collections.abc import Callable, Sequence
import dataclasses
import itertools

from qomni_jax.sequence.timestamps import patch_times

Resize = Callable[[int, int], tuple[int, int]]  # pixels high and wide -> the same after resizing


@dataclasses.dataclass(frozen=True)
class AudioSize:
    """A recording of `tokens` encoder outputs."""

    tokens: int

    def __post_init__(self) -> None:
        _require_count(self, "tokens", self.tokens)


@dataclasses.dataclass(frozen=True)
class ImageSize:
    """An image of `grid` (1, height, width) patches."""

    grid: tuple[int, int, int]

    def __post_init__(self) -> None:
        _require_grid(self, self.grid)
        if self.grid[0] != 1:
            raise ValueError(f"ImageSize.grid = {self.grid!r}: accepted is (1, height, width)")


@dataclasses.dataclass(frozen=True)
class VideoSize:
    """A video of `grid` (time, height, width) patches at `patch_times` `[time]`, in seconds from its start.

    `audio_tokens` is the number of encoder outputs of its sound, None without sound.
    """

    grid: tuple[int, int, int]
    patch_times: tuple[float, ...]
    audio_tokens: int | None = None

    def __post_init__(self) -> None:
        _require_grid(self, self.grid)
        times = self.patch_times
        if len(times) != self.grid[0] or times[0] < 0 or any(b < a for a, b in itertools.pairwise(times)):
            raise ValueError(
                f"VideoSize.patch_times = {times!r}: accepted is grid[0] = {self.grid[0]} times from 0 on that never "
                "decrease"
            )
        if self.audio_tokens is not None:
            _require_count(self, "audio_tokens", self.audio_tokens)


MediaSize = AudioSize | ImageSize | VideoSize


def audio_size(samples: int, num_frames: Callable[[int], int], num_tokens: Callable[[int], int]) -> AudioSize:
    """The size of a recording of `samples` samples, by the formulas of the features and of the audio encoder."""
    return AudioSize(num_tokens(num_frames(samples)))


def image_size(height: int, width: int, resize: Resize, patch: int) -> ImageSize:
    """The size of an image of so many pixels, whose patches are `patch` pixels high and wide after `resize`."""
    height, width = resize(height, width)
    return ImageSize((1, height // patch, width // patch))


def video_size(
    frame_times: Sequence[float],
    height: int,
    width: int,
    resize: Resize,
    patch: int,
    temporal_patch: int = 2,
    audio_tokens: int | None = None,
) -> VideoSize:
    """The size of a video of frames at `frame_times` seconds, of so many pixels, `temporal_patch` frames a patch.

    Patches are timed by their means; Qwen3-Omni times them by their starts (`timestamps.regular_patch_times`).
    """
    height, width = resize(height, width)
    times = tuple(float(time) for time in patch_times(frame_times, temporal_patch))
    return VideoSize((len(times), height // patch, width // patch), times, audio_tokens)


def _require_count(size: MediaSize, field: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{type(size).__name__}.{field} = {value!r}: accepted is 1 or more")


def _require_grid(size: MediaSize, grid: tuple[int, int, int]) -> None:
    if len(grid) != 3 or min(grid) < 1:
        raise ValueError(f"{type(size).__name__}.grid = {grid!r}: accepted is (time, height, width), 1 or more each")
