"""A few queries on a cache with room for many slots: reads what is there, block by block, whatever the room.

(m, l, a) <- maximum, sum and weighted values so far, as in `xla`; slots lie in the cache's own order, so that nothing
of it is copied. Without a gradient: nothing is trained on a cache.
"""

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.attention.reference import HIDDEN
from qomni_jax.ops.precision import wide

CACHE_BLOCK = 256


def attention_cached(q: Array, keys: Array, values: Array, low: Array, high: Array) -> Array:
    """`q [B, T, H, D]`, `keys, values [B, HK, S, D]`; query t of row b sees slots `low[b, t] .. high[b, t]`.

    A block that a row does not look at, but another row does, adds exactly nothing to it.
    """
    batch, steps, heads, dim = q.shape
    kv_heads, slots = keys.shape[1:3]
    block = min(CACHE_BLOCK, slots)
    q = (q * jnp.asarray(dim**-0.5, q.dtype)).reshape(batch, steps, kv_heads, heads // kv_heads, dim)
    q = q.transpose(0, 2, 3, 1, 4)

    def visit(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        top, total, mean = carry
        at = jnp.minimum(j * block, slots - block)  # the last block may begin earlier, among slots that were seen
        k, v = (jax.lax.dynamic_slice_in_dim(x, at, block, axis=2) for x in (keys, values))
        scores = jnp.einsum("bkgtd,bksd->bkgts", q, k, preferred_element_type=wide(q.dtype))
        slot = at + jnp.arange(block)
        visible = (slot <= high[..., None]) & (slot >= low[..., None]) & (slot >= j * block)
        scores = jnp.where(visible[:, None, None], scores, HIDDEN)
        new_top = jnp.maximum(top, jnp.max(scores, axis=-1))
        weights, old = jnp.exp(scores - new_top[..., None]), jnp.exp(top - new_top)
        added = jnp.einsum("bkgts,bksd->bkgtd", weights.astype(v.dtype), v, preferred_element_type=wide(v.dtype))
        return new_top, old * total + jnp.sum(weights, axis=-1), old[..., None] * mean + added

    kind = wide(q.dtype)
    empty = jnp.full(q.shape[:-1], HIDDEN, kind), jnp.zeros(q.shape[:-1], kind), jnp.zeros(q.shape, kind)
    _, total, mean = jax.lax.fori_loop(jnp.min(low) // block, jnp.max(high) // block + 1, visit, empty)
    o = (mean / total[..., None]).astype(q.dtype)
    return o.transpose(0, 3, 1, 2, 4).reshape(batch, steps, heads, dim)
