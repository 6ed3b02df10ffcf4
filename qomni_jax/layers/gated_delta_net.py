"""The Gated DeltaNet mixer (Qwen3-Next, Qwen3.5)."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.decoder import GatedDeltaNetConfig
from qomni_jax.layers.linear import projection
from qomni_jax.ops.conv import causal_depthwise_conv
from qomni_jax.ops.gated_delta_rule import gated_delta_rule
from qomni_jax.ops.norms import gated_rms_norm, l2_normalize


class GatedDeltaNetCache(NamedTuple):
    """What one layer carries from call to call."""

    conv: Array  # [B, W-1, conv channels], inputs of the convolution
    state: Array  # [B, HV, DK, DV] float32


class GatedDeltaNet(nn.Module):
    """Token mixer of constant state: `x [B, T, D] -> [B, T, D]` and the cache for the tokens that follow.

    With `segment_ids [B, T]`, conv and state are reset where they change.
    """

    config: GatedDeltaNetConfig
    model_dim: int
    norm_eps: float = 1e-6

    @nn.compact
    def __call__(
        self, x: Array, cache: GatedDeltaNetCache | None = None, segment_ids: Array | None = None
    ) -> tuple[Array, GatedDeltaNetCache]:
        c = self.config
        batch, steps = x.shape[:2]
        key_dim, value_dim = c.num_key_heads * c.head_key_dim, c.num_value_heads * c.head_value_dim
        qkv = projection(2 * key_dim + value_dim, "in_proj_qkv")(x)
        z = projection(value_dim, "in_proj_z")(x)
        beta = jax.nn.sigmoid(projection(c.num_value_heads, "in_proj_b")(x).astype(jnp.float32))
        a = projection(c.num_value_heads, "in_proj_a")(x).astype(jnp.float32)
        a_log = self.param("A_log", _a_log_init, (c.num_value_heads,))
        dt_bias = self.param("dt_bias", _dt_bias_init, (c.num_value_heads,))
        g = -jnp.exp(a_log) * jax.nn.softplus(a + dt_bias)

        conv_weight = self.param("conv1d", _conv_init, (c.conv_width, qkv.shape[-1]))
        cache = cache or empty_gdn_cache(c, batch, x.dtype)
        qkv, conv = causal_depthwise_conv(qkv, conv_weight, cache.conv, segment_ids)
        q, k, v = jnp.split(jax.nn.silu(qkv), [key_dim, 2 * key_dim], axis=-1)
        q = l2_normalize(q.reshape(batch, steps, c.num_key_heads, c.head_key_dim))
        k = l2_normalize(k.reshape(batch, steps, c.num_key_heads, c.head_key_dim))
        v = v.reshape(batch, steps, c.num_value_heads, c.head_value_dim)
        o, state = gated_delta_rule(
            q, k, v, g, beta, cache.state, segment_ids, backend=c.backend, chunk_size=c.chunk_size
        )
        norm = self.param("norm", nn.initializers.ones, (c.head_value_dim,))
        o = gated_rms_norm(o, z.reshape(o.shape), norm, self.norm_eps)
        out = projection(self.model_dim, "out_proj")(o.reshape(batch, steps, value_dim))
        return out, GatedDeltaNetCache(conv, state)


def empty_gdn_cache(config: GatedDeltaNetConfig, batch: int, dtype: Any = jnp.float32) -> GatedDeltaNetCache:
    """The cache before the first token."""
    channels = 2 * config.num_key_heads * config.head_key_dim + config.num_value_heads * config.head_value_dim
    state = (batch, config.num_value_heads, config.head_key_dim, config.head_value_dim)
    return GatedDeltaNetCache(jnp.zeros((batch, config.conv_width - 1, channels), dtype), jnp.zeros(state, jnp.float32))


def _a_log_init(key: Array, shape: tuple[int, ...]) -> Array:
    return jnp.log(jax.random.uniform(key, shape, minval=0.01, maxval=16.0))


def _dt_bias_init(key: Array, shape: tuple[int, ...]) -> Array:
    """softplus(dt_bias) log-uniform in 0.001..0.1, so that heads start with memories from tens to thousands of tokens
    (Mamba-2's initialisation; with the released dt_bias = 1 a small model forgets within a few tokens)."""
    dt = jnp.exp(jax.random.uniform(key, shape) * (jnp.log(0.1) - jnp.log(0.001)) + jnp.log(0.001))
    return dt + jnp.log(-jnp.expm1(-dt))


def _conv_init(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) * shape[0] ** -0.5
