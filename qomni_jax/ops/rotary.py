"""Rotary position embedding on the leading part of each head (NeoX layout), by one position, by three or by two."""

from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.ops.precision import at_least_float32, wide


def apply_rotary(
    x: Array, positions: Array, *, rotary_dim: int, theta: float, sections: tuple[int, ...] | None = None
) -> Array:
    """Rotates the first `rotary_dim` channels of every head by its position, the rest passes through.

    `x [B, T, H, D]`, `positions [B, T]` or `[3, B, T]` (time, height, width; whole numbers or any grid) ->
    `[B, T, H, D]`. Channel i is paired with channel i + rotary_dim / 2. Angles are float32 or better.
    Source: Qwen3.5 gated attention (rotary fraction 0.25), interleaved sections of Qwen3-VL.

    Raises ValueError where sections do not sum to rotary_dim / 2, or three positions come without sections.
    """
    if rotary_dim == 0:
        return x
    positions = positions.astype(wide(x.dtype))
    return rotate(x, rotary_angles(positions, rotary_dim // 2, theta, sections))


def rotate(x: Array, angles: Array) -> Array:
    """`x [B, T, H, D]` turned by `angles [B, T, half]` float32; channels from `2 * half` on pass through."""
    half = angles.shape[-1]
    cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate([part.astype(x.dtype) for part in (*rotated, rest)], axis=-1)


def rotary_angles(positions: Array, half: int, theta: float, sections: tuple[int, ...] | None = None) -> Array:
    """`[B, T, half]`, float32 or better: position times frequency, each frequency by the axis that owns it."""
    if sections is not None and sum(sections) != half:
        raise ValueError(
            f"rotary sections {tuple(sections)} sum to {sum(sections)}: accepted is half of rotary_dim = {half}"
        )
    positions = at_least_float32(positions)
    frequencies = theta ** (-jnp.arange(half, dtype=positions.dtype) / half)
    if positions.ndim == 2:
        return positions[..., None] * frequencies
    if sections is None:
        raise ValueError(f"positions {positions.shape}: accepted is [B, T] where there are no rotary sections")
    owner = _axis_of_frequency(sections)
    return jnp.moveaxis(positions, 0, -1)[..., owner] * frequencies


def axial_rotary_angles(rows: Array, columns: Array, half: int, theta: float) -> Array:
    """`[B, T], [B, T] -> [B, T, half]` float32: the first half of the angles follows the row of a grid, the second the
    column, with the same frequencies. Source: vision tower of Qwen3-VL."""
    return jnp.concatenate([rotary_angles(axis, half // 2, theta) for axis in (rows, columns)], axis=-1)


def _axis_of_frequency(sections: tuple[int, ...]) -> np.ndarray:
    """0, 1 or 2 (time, height, width) for each frequency: they take turns until a section is used up, time the rest."""
    index = np.arange(sum(sections))
    owner = np.zeros(len(index), np.int32)
    for axis in (1, 2):
        owner[(index % 3 == axis) & (index < 3 * sections[axis])] = axis
    return owner
