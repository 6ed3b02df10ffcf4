"""All scores at once: the contract that the other forms meet, and the fast form for one token or a short row."""

from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.precision import wide

HIDDEN = float(jnp.finfo(jnp.float32).min) / 2  # finite: a row that sees nothing stays a number


def attention_reference(q: Array, k: Array, v: Array, low: Array, high: Array) -> Array:
    """`q [B, T, H, D]`, `k, v [B, S, HK, D]`; query t of row b sees slots `low[b, t] .. high[b, t]`, at least one."""
    batch, steps, heads, dim = q.shape
    slots, kv_heads = k.shape[1:3]
    grouped = q.reshape(batch, steps, kv_heads, heads // kv_heads, dim)
    scores = jnp.einsum("btkgd,bskd->bkgts", grouped, k, preferred_element_type=wide(q.dtype)) * dim**-0.5
    slot = jnp.arange(slots)
    visible = (slot <= high[..., None]) & (slot >= low[..., None])
    scores = jnp.where(visible[:, None, None], scores, HIDDEN)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    weights = (weights / jnp.sum(weights, axis=-1, keepdims=True)).astype(v.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", weights, v).reshape(batch, steps, heads, dim)
