"""Image sizes that divide into whole tokens, and resizing to them."""

import math

import numpy as np
from PIL import Image

from qomni_jax.config.vision import ImageConfig


def smart_resize(height: int, width: int, config: ImageConfig) -> tuple[int, int]:
    """The size in pixels that an image is brought to: near its own, both sides multiples of `config.size_unit`, the
    area within `min_pixels .. max_pixels`, the aspect ratio kept as far as these allow.

    Raises ValueError for a side below 1 or an aspect ratio above `config.max_aspect_ratio`. Source: Qwen2-VL.
    """
    if min(height, width) < 1 or max(height, width) > config.max_aspect_ratio * min(height, width):
        raise ValueError(
            f"image of {height} x {width} pixels: accepted is 1 or more a side, "
            f"the longer at most {config.max_aspect_ratio:g} times the shorter"
        )
    unit, area = config.size_unit, height * width
    sides = [max(1, round(side / unit)) for side in (height, width)]
    if math.prod(sides) * unit**2 > config.max_pixels:
        scale = math.sqrt(config.max_pixels / area)
        sides = [max(1, math.floor(side * scale / unit)) for side in (height, width)]
    elif math.prod(sides) * unit**2 < config.min_pixels:
        scale = math.sqrt(config.min_pixels / area)
        sides = [math.ceil(side * scale / unit) for side in (height, width)]
    # A side of less than one unit was raised to it: the other one gives way where both would be too much.
    longer = sides.index(max(sides))
    sides[longer] = min(sides[longer], config.max_pixels // (sides[1 - longer] * unit**2))
    return sides[0] * unit, sides[1] * unit


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bicubic: uint8 `[H, W, 3]` -> uint8 `[*size, 3]`. Raises ValueError for an array of another kind."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image {image.dtype} {image.shape}: accepted is uint8 [height, width, 3]")
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
