"""Pixels to the patches that the vision encoder reads, and patches to its rows.

Patches stand in merge-block order: block row, block column, row in the block, column in the block; the
`merge_size ** 2` patches of a token follow each other. A patch is `[channels, frames, rows, columns]`, flattened.
A grid is `(t, h, w)`: temporal patches, rows and columns of patches.
"""

from collections.abc import Sequence

import numpy as np

from qomni_jax.config.vision import ImageConfig
from qomni_jax.vision.resize import resize, smart_resize

Grid = tuple[int, int, int]


def image_patches(image: np.ndarray, config: ImageConfig) -> tuple[np.ndarray, Grid]:
    """Resizes an image: uint8 `[H, W, 3]` -> patches float32 `[t * h * w, patch]` in [-1, 1], grid with t = 1."""
    return video_patches(image[None], config)


def video_patches(frames: np.ndarray, config: ImageConfig) -> tuple[np.ndarray, Grid]:
    """The same for the frames of a video, uint8 `[T, H, W, 3]`; the last one is repeated to fill its patch.

    Raises ValueError as `smart_resize` and `resize` do, and for no frames.
    """
    if frames.ndim != 4 or not len(frames):
        raise ValueError(f"frames {frames.shape}: accepted is [frames, height, width, 3], 1 or more")
    size = smart_resize(frames.shape[1], frames.shape[2], config)
    pixels = np.stack([resize(frame, size) for frame in frames]).astype(np.float32)
    return patchify(pixels / 127.5 - 1.0, config)


def patchify(frames: np.ndarray, config: ImageConfig) -> tuple[np.ndarray, Grid]:
    """Frames `[T, H, W, C]`, H and W multiples of `config.size_unit` -> patches `[t * h * w, patch]` and their grid."""
    side, merge, depth = config.patch_size, config.merge_size, config.temporal_patch_size
    missing = -len(frames) % depth
    frames = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
    steps, height, width, channels = frames.shape
    grid = (steps // depth, height // side, width // side)
    blocks = frames.reshape(
        grid[0], depth, grid[1] // merge, merge, side, grid[2] // merge, merge, side, channels
    )  # t, frame, block row, row in block, y, block column, column in block, x, channel
    return blocks.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(np.prod(grid), -1), grid


def frame_rows(
    items: Sequence[tuple[np.ndarray, Grid]], *, rows: int | None = None, length: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Patches of images and videos as the rows of one call: `[R, L, patch]` and their grids int32 `[R, 2]`, (h, w).

    Every temporal patch is a row, in the order of `items`. `rows` and `length` fix R and L (few sizes keep the number
    of compiled programs small); rows beyond the last have a grid of 0 x 0. None: as many as needed.

    Raises ValueError where they do not hold the items, or where patches and grid disagree.
    """
    for patches, grid in items:
        if len(patches) != np.prod(grid):
            raise ValueError(f"{len(patches)} patches with grid {tuple(grid)}: accepted is {np.prod(grid)}")
    count = sum(t for _, (t, _, _) in items)
    longest = max(h * w for _, (_, h, w) in items)
    rows, length = count if rows is None else rows, longest if length is None else length
    if rows < count or length < longest:
        raise ValueError(f"{rows} rows of {length} patches: accepted is at least {count} rows of {longest}")
    packed = np.zeros((rows, length, items[0][0].shape[1]), items[0][0].dtype)
    grids = np.zeros((rows, 2), np.int32)
    row = 0
    for patches, (t, h, w) in items:
        packed[row : row + t, : h * w] = patches.reshape(t, h * w, -1)
        grids[row : row + t] = h, w
        row += t
    return packed, grids
