"""Patches: those of the reference for an image, a layout that the rows of a call keep."""

import pathlib

import numpy as np
import pytest
from safetensors.numpy import load_file

from qomni_jax.config.vision import ImageConfig
from qomni_jax.vision.patches import frame_rows, image_patches, patchify, video_patches

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "goldens"
CONFIG = ImageConfig()


def test_an_image_gives_the_patches_of_the_reference():
    golden = load_file(GOLDENS / "feat_image" / "golden.safetensors")
    patches, grid = image_patches(golden["image"], CONFIG)
    assert grid == tuple(golden["image_grid_thw"][0])
    both = patches.reshape(-1, 3, 2, 256)
    np.testing.assert_array_equal(both[:, :, 0], both[:, :, 1])  # an image is its own next frame
    # The same bicubic filter in another release of Pillow may round to the neighbouring shade.
    np.testing.assert_allclose(both[:, :, 0], golden["pixels"] / 127.5 - 1.0, atol=1.01 / 127.5)


def test_patches_stand_in_merge_blocks_and_hold_channel_frame_row_column():
    """Every number says where it came from: frame, row, column, channel."""
    config = ImageConfig(patch_size=2, merge_size=2, min_pixels=1, max_pixels=1000)
    at = np.stack(np.meshgrid(*map(np.arange, (3, 8, 12)), indexing="ij"), axis=-1) @ (10_000, 100, 1)
    patches, grid = patchify(np.stack([at, at + 0.25], axis=-1), config)
    assert grid == (2, 4, 6)
    patches = patches.reshape(2, 2, 3, 2, 2, 2, 2, 2, 2)  # t, block, in block, channel, frame, row, column
    # Second temporal patch (the last frame twice), second block row, third block column, lower left patch.
    found = patches[1, 1, 2, 1, 0]
    corner = 20_000 + 6 * 100 + 8
    expected = corner + np.array([[0, 1], [100, 101]])
    np.testing.assert_array_equal(found[0, 0], expected)
    np.testing.assert_array_equal(found[1, 1], expected + 0.25)


def test_frames_become_rows():
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (5, 64, 96, 3), np.uint8)
    items = [image_patches(video[0], CONFIG), video_patches(video[:, :64, :64], CONFIG)]
    assert [grid for _, grid in items] == [(1, 4, 6), (3, 4, 4)]
    patches, grids = frame_rows(items, rows=6, length=32)
    assert patches.shape == (6, 32, 1536)
    assert grids.tolist() == [[4, 6], *[[4, 4]] * 3, [0, 0], [0, 0]]
    np.testing.assert_array_equal(patches[0, :24], items[0][0])
    np.testing.assert_array_equal(patches[2, :16], items[1][0][16:32])
    assert not patches[2, 16:].any()
    with pytest.raises(ValueError, match="3 rows of 24 patches: accepted is at least 4 rows of 24"):
        frame_rows(items, rows=3)
    with pytest.raises(ValueError, match=r"24 patches with grid \(1, 4, 4\): accepted is 16"):
        frame_rows([(items[0][0], (1, 4, 4))])
    with pytest.raises(ValueError, match=r"accepted is \[frames, height, width, 3\], 1 or more"):
        video_patches(video[:0], CONFIG)
