"""Gated grouped-query attention (Qwen3.5), with a key-value cache of fixed capacity."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from qomni_jax.config.decoder import AttentionConfig
from qomni_jax.layers.linear import norm_weight, projection
from qomni_jax.ops.attention import attention_over_cache, grouped_query_attention
from qomni_jax.ops.norms import rms_norm
from qomni_jax.ops.rotary import apply_rotary
from qomni_jax.parallel.kernels import sharded


class AttentionCache(NamedTuple):
    """Keys and values of the tokens seen, a slot each, in the order of the row."""

    keys: Array  # [B, HK, S, D]
    values: Array  # [B, HK, S, D]


class Attention(nn.Module):
    """Causal self-attention: `x [B, T, D]`, `positions [B, T]` or `[3, B, T]` -> `[B, T, D]` and the cache.

    A token sees those before it in its row, whatever their rotary positions. With a cache, `start [B]` tokens came
    before these in each row, and they go to the slots from there on. `first [B]` is the first slot with a token
    (padding on the left before it). With `segment_ids [B, T]`, and no cache, a token sees its own segment alone.
    """

    config: AttentionConfig
    model_dim: int
    norm_eps: float = 1e-6
    zero_centred_norms: bool = True

    @nn.compact
    def __call__(
        self,
        x: Array,
        positions: Array,
        cache: AttentionCache | None = None,
        start: Array | None = None,
        first: Array | None = None,
        segment_ids: Array | None = None,
    ) -> tuple[Array, AttentionCache | None]:
        c = self.config
        batch, steps = x.shape[:2]
        q = projection(c.num_heads * c.head_dim, "q_proj", ("embed", "heads"))(x)
        k = projection(c.num_kv_heads * c.head_dim, "k_proj", ("embed", "kv_heads"))(x)
        v = projection(c.num_kv_heads * c.head_dim, "v_proj", ("embed", "kv_heads"))(x)
        q = q.reshape(batch, steps, c.num_heads, c.head_dim)
        k, v = (a.reshape(batch, steps, c.num_kv_heads, c.head_dim) for a in (k, v))
        if c.qk_norm:
            centred = self.zero_centred_norms
            q_norm, k_norm = (norm_weight(self, n, c.head_dim, zero_centred=centred) for n in ("q_norm", "k_norm"))
            q = rms_norm(q, q_norm, self.norm_eps, zero_centred=centred)
            k = rms_norm(k, k_norm, self.norm_eps, zero_centred=centred)
        q, k = (
            apply_rotary(a, positions, rotary_dim=c.rotary_dim, theta=c.rope_theta, sections=c.mrope_section)
            for a in (q, k)
        )
        q, k, v = (checkpoint_name(a, "attention_in") for a in (q, k, v))
        if cache is None:
            o = self._attend(q, k, v, first, segment_ids)
        else:
            assert start is not None
            cache = AttentionCache(_write(cache.keys, k, start), _write(cache.values, v, start))
            o = attention_over_cache(q, *cache, start=start, first=first, backend=c.backend)
        o = o.reshape(batch, steps, c.num_heads * c.head_dim)
        if c.gated:
            gate = projection(c.num_heads * c.head_dim, "gate_proj", ("embed", "heads"))(x)
            o = o * jax.nn.sigmoid(gate)
        return projection(self.model_dim, "o_proj", ("heads", "embed"))(o), cache

    def _attend(self, q: Array, k: Array, v: Array, first: Array | None, segment_ids: Array | None) -> Array:
        def attend(q: Array, k: Array, v: Array, first: Array | None, segment_ids: Array | None) -> Array:
            return grouped_query_attention(q, k, v, first=first, segment_ids=segment_ids, backend=self.config.backend)

        tensor = jax.sharding.get_abstract_mesh().shape.get("tensor", 1)
        if tensor > k.shape[2] and tensor % k.shape[2] == 0:  # each device needs a key head of its own
            k, v = (jnp.repeat(a, tensor // a.shape[2], axis=2) for a in (k, v))
        heads = ("batch", None, "heads", None)
        axes = (heads, heads, heads, ("batch",), ("batch", None))
        return sharded(attend, axes, heads)(q, k, v, first, segment_ids)


def empty_attention_cache(
    config: AttentionConfig, batch: int, capacity: int, dtype: Any = jnp.float32
) -> AttentionCache:
    """A cache for `capacity` tokens, before the first one."""
    shape = (batch, config.num_kv_heads, capacity, config.head_dim)
    return AttentionCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def _write(slots: Array, tokens: Array, start: Array) -> Array:
    """`tokens [B, T, HK, D]` into `slots [B, HK, S, D]`, each row from its own slot on."""
    tokens = jnp.swapaxes(tokens, 1, 2).astype(slots.dtype)
    if slots.shape[0] == 1:  # what follows would be a scatter, which need not be in place
        return jax.lax.dynamic_update_slice_in_dim(slots, tokens, start[0], axis=2)
    return jax.vmap(lambda row, new, at: jax.lax.dynamic_update_slice_in_dim(row, new, at, axis=1))(
        slots, tokens, start
    )
