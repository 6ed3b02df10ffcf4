"""The inverse of a unit lower-triangular matrix, stable where the keys of a chunk are alike."""

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np


def unit_lower_inverse(lower: Array) -> Array:
    """(I + L)^-1 for strictly lower-triangular `L [..., C, C]`, C a power of two, by masked block doubling.

    Inverses of the diagonal blocks of width b become those of width 2b: X <- X - X L_b X, with L_b the part of L that
    joins two neighbours. No power of L is formed, so correlated keys do not blow it up as a Neumann series does.
    """
    size = lower.shape[-1]
    index = np.arange(size)
    inverse = jnp.broadcast_to(jnp.eye(size, dtype=lower.dtype), lower.shape)
    block = 1
    while block < size:
        same_pair = index[:, None] // (2 * block) == index // (2 * block)
        joins = same_pair & (index[:, None] // block > index // block)
        joined = jnp.where(joins, lower, 0.0)
        if block > 1:
            joined = _matmul(_matmul(inverse, joined), inverse)
        inverse = inverse - joined
        block *= 2
    return inverse


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
