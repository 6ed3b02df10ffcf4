"""Gated grouped-query attention (Qwen3.5), with a key-value cache of fixed capacity."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.decoder import AttentionConfig
from qomni_jax.layers.linear import projection
from qomni_jax.ops.attention import grouped_query_attention
from qomni_jax.ops.norms import rms_norm
from qomni_jax.ops.rotary import apply_rotary


class AttentionCache(NamedTuple):
    """Keys and values of the tokens seen; slot i holds position i."""

    keys: Array  # [B, S, HK, D]
    values: Array  # [B, S, HK, D]


class Attention(nn.Module):
    """Causal self-attention: `x [B, T, D]`, `positions [B, T]` -> `[B, T, D]` and the cache with these tokens in it.

    With a cache, tokens must come in order, all rows in step: `start` is how many came before (the slot they go to).
    With `segment_ids [B, T]` (and no cache) a token sees its own segment alone.
    """

    config: AttentionConfig
    model_dim: int
    norm_eps: float = 1e-6

    @nn.compact
    def __call__(
        self,
        x: Array,
        positions: Array,
        cache: AttentionCache | None = None,
        start: Array | int = 0,
        segment_ids: Array | None = None,
    ) -> tuple[Array, AttentionCache | None]:
        c = self.config
        batch, steps = x.shape[:2]
        q = projection(c.num_heads * c.head_dim, "q_proj")(x).reshape(batch, steps, c.num_heads, c.head_dim)
        k = projection(c.num_kv_heads * c.head_dim, "k_proj")(x).reshape(batch, steps, c.num_kv_heads, c.head_dim)
        v = projection(c.num_kv_heads * c.head_dim, "v_proj")(x).reshape(batch, steps, c.num_kv_heads, c.head_dim)
        q = rms_norm(q, self.param("q_norm", nn.initializers.zeros, (c.head_dim,)), self.norm_eps)
        k = rms_norm(k, self.param("k_norm", nn.initializers.zeros, (c.head_dim,)), self.norm_eps)
        q = apply_rotary(q, positions, rotary_dim=c.rotary_dim, theta=c.rope_theta)
        k = apply_rotary(k, positions, rotary_dim=c.rotary_dim, theta=c.rope_theta)

        kv_positions = positions
        if cache is not None:
            k = jax.lax.dynamic_update_slice_in_dim(cache.keys, k.astype(cache.keys.dtype), start, axis=1)
            v = jax.lax.dynamic_update_slice_in_dim(cache.values, v.astype(cache.values.dtype), start, axis=1)
            cache = AttentionCache(k, v)
            slots = jnp.arange(k.shape[1])
            kv_positions = jnp.broadcast_to(jnp.where(slots < start + steps, slots, -1), (batch, k.shape[1]))
        o = grouped_query_attention(q, k, v, positions, kv_positions, segment_ids).reshape(batch, steps, -1)
        if c.gated:
            o = o * jax.nn.sigmoid(projection(c.num_heads * c.head_dim, "gate_proj")(x))
        return projection(self.model_dim, "o_proj")(o), cache


def empty_attention_cache(
    config: AttentionConfig, batch: int, capacity: int, dtype: Any = jnp.float32
) -> AttentionCache:
    """A cache for `capacity` tokens, before the first one."""
    shape = (batch, capacity, config.num_kv_heads, config.head_dim)
    return AttentionCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
