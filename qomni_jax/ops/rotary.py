"""Rotary position embedding on the leading part of each head (partial rotary, NeoX layout)."""

from jax import Array
import jax.numpy as jnp


def apply_rotary(x: Array, positions: Array, *, rotary_dim: int, theta: float) -> Array:
    """Rotates the first `rotary_dim` channels of every head by its position, the rest passes through.

    `x [B, T, H, D]`, `positions [B, T]` (integers or seconds on any grid) -> `[B, T, H, D]`. Channel i is paired with
    channel i + rotary_dim / 2. Angles are float32. Source: Qwen3.5 gated attention (rotary fraction 0.25).
    """
    if rotary_dim == 0:
        return x
    half = rotary_dim // 2
    frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions.astype(jnp.float32)[..., None, None] * frequencies
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second, rest = x[..., :half], x[..., half:rotary_dim], x[..., rotary_dim:]
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate([part.astype(x.dtype) for part in (*rotated, rest)], axis=-1)
