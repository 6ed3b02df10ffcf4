"""Grouped-query attention over a cache, softmax in float32."""

from jax import Array
import jax.numpy as jnp


def grouped_query_attention(
    q: Array, k: Array, v: Array, q_positions: Array, kv_positions: Array, segment_ids: Array | None = None
) -> Array:
    """Causal grouped-query attention by position.

    `q [B, T, H, D]`, `k, v [B, S, HK, D]` with H a multiple of HK, `q_positions [B, T]`, `kv_positions [B, S]` ->
    `[B, T, H, D]`. A query sees every key whose position is in `0..its own`; unused cache slots hold position -1. With
    `segment_ids [B, T]` (S = T) it sees its own segment alone.
    """
    batch, steps, heads, dim = q.shape
    kv_heads = k.shape[2]
    grouped = q.reshape(batch, steps, kv_heads, heads // kv_heads, dim)
    scores = jnp.einsum("btkgd,bskd->bkgts", grouped, k, preferred_element_type=jnp.float32) * dim**-0.5
    visible = (kv_positions[:, None, :] <= q_positions[:, :, None]) & (kv_positions[:, None, :] >= 0)
    if segment_ids is not None:
        visible &= segment_ids[:, :, None] == segment_ids[:, None, :]
    scores = jnp.where(visible[:, None, None], scores, -jnp.inf)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    weights = (weights / jnp.sum(weights, axis=-1, keepdims=True)).astype(v.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", weights, v).reshape(batch, steps, heads, dim)
