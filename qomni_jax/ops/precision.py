"""The float type in which statistics, gates and sums are computed."""

from typing import Any

from jax import Array
import jax.numpy as jnp


def at_least_float32(x: Array) -> Array:
    """`x` as float32, or as it is where it has more digits (64-bit mode, for reference values)."""
    return x.astype(wide(x.dtype))


def wide(dtype: Any) -> Any:
    """The type of sums of numbers of this type: float32, or the type itself where it has more digits."""
    return jnp.promote_types(dtype, jnp.float32)
