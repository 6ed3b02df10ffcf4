"""The Gated DeltaNet mixer (Qwen3-Next, Qwen3.5)."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from qomni_jax.config.decoder import GatedDeltaNetConfig
from qomni_jax.layers.gated_delta_mixing import MixerInputs, delta_rule, mix, rule_inputs
from qomni_jax.layers.linear import projection, with_axes
from qomni_jax.ops.conv import conv_state_after
from qomni_jax.ops.norms import gated_rms_norm
from qomni_jax.ops.precision import at_least_float32, wide


class GatedDeltaNetCache(NamedTuple):
    """What one layer carries from call to call."""

    conv: Array  # [B, W-1, conv channels], inputs of the convolution
    state: Array  # [B, HV, DK, DV] float32


class GatedDeltaNet(nn.Module):
    """Token mixer of constant state: `x [B, T, D] -> [B, T, D]` and the cache for the tokens that follow.

    With `segment_ids [B, T]`, conv and state are reset where they change. Where `mask [B, T]` is 0 there is no token:
    the state passes it unchanged, on whichever side of a row the padding stands. `every_state` gives a cache with the
    state after each token, `conv [B, T, W-1, C]` and `state [B, T, HV, DK, DV]`, for few tokens. With a cache, many
    tokens run in one fused kernel on a TPU (`gated_delta_mixing.mix`).
    """

    config: GatedDeltaNetConfig
    model_dim: int
    norm_eps: float = 1e-6

    @nn.compact
    def __call__(
        self,
        x: Array,
        cache: GatedDeltaNetCache | None = None,
        segment_ids: Array | None = None,
        mask: Array | None = None,
        every_state: bool = False,
    ) -> tuple[Array, GatedDeltaNetCache]:
        c = self.config
        batch, steps = x.shape[:2]
        value_dim = c.num_value_heads * c.head_value_dim
        real, ends = None, None
        if mask is not None:
            real = mask > 0
            x = jnp.where(real[..., None], x, 0)
            ends = jnp.max(jnp.where(real, jnp.arange(1, steps + 1), 0), axis=1)

        def project(features: int, name: str) -> Array:
            return checkpoint_name(projection(features, name, ("embed", "linear_heads"))(x), "gdn_in")

        qkv = project(c.conv_channels, "in_proj_qkv")
        z = project(value_dim, "in_proj_z")
        b = at_least_float32(project(c.num_value_heads, "in_proj_b"))
        a = at_least_float32(project(c.num_value_heads, "in_proj_a"))
        a_log = self.param("A_log", with_axes(_a_log_init, ("linear_heads",)), (c.num_value_heads,))
        dt_bias = self.param("dt_bias", with_axes(_dt_bias_init, ("linear_heads",)), (c.num_value_heads,))
        weight = self.param("conv1d", with_axes(_conv_init, ("conv", "linear_heads")), (c.conv_width, c.conv_channels))
        before = cache or empty_gdn_cache(c, batch, x.dtype)
        inputs = MixerInputs(qkv, weight.astype(x.dtype), a, b, a_log, dt_bias, before.conv, before.state)
        if every_state:
            conv = _every_window(before.conv, qkv)
            o, state = _step_by_step(c, *rule_inputs(c, inputs, segment_ids, real), before.state)
        else:
            conv = conv_state_after(qkv, before.conv, ends)
            o, state = mix(c, inputs, segment_ids, real, prefill=cache is not None)
        o = checkpoint_name(o, "gdn_out")
        norm = self.param("norm", with_axes(nn.initializers.ones, ("norm",)), (c.head_value_dim,))
        o = gated_rms_norm(o, z.reshape(o.shape), norm, self.norm_eps)
        out = projection(self.model_dim, "out_proj", ("linear_heads", "embed"))(o.reshape(batch, steps, value_dim))
        return out, GatedDeltaNetCache(conv, state)


def empty_gdn_cache(config: GatedDeltaNetConfig, batch: int, dtype: Any = jnp.float32) -> GatedDeltaNetCache:
    """The cache before the first token."""
    state = (batch, config.num_value_heads, config.head_key_dim, config.head_value_dim)
    conv = (batch, config.conv_width - 1, config.conv_channels)
    return GatedDeltaNetCache(jnp.zeros(conv, dtype), jnp.zeros(state, wide(dtype)))


def _step_by_step(
    c: GatedDeltaNetConfig, q: Array, k: Array, v: Array, g: Array, beta: Array, state: Array
) -> tuple[Array, Array]:
    outputs, states = [], []
    for t in range(q.shape[1]):
        one = slice(t, t + 1)
        o, state = delta_rule(c, q[:, one], k[:, one], v[:, one], g[:, one], beta[:, one], state)
        outputs.append(o)
        states.append(state)
    return jnp.concatenate(outputs, axis=1), jnp.stack(states, axis=1)


def _every_window(conv: Array, x: Array) -> Array:
    """The convolution's inputs to carry on after each step: `[B, W-1, C], [B, T, C] -> [B, T, W-1, C]`."""
    padded = jnp.concatenate([conv.astype(x.dtype), x], axis=1)
    return jnp.stack([padded[:, t + 1 : t + 1 + conv.shape[1]] for t in range(x.shape[1])], axis=1)


def _a_log_init(key: Array, shape: tuple[int, ...]) -> Array:
    return jnp.log(jax.random.uniform(key, shape, minval=0.01, maxval=16.0))


def _dt_bias_init(key: Array, shape: tuple[int, ...]) -> Array:
    """softplus(dt_bias) log-uniform in 0.001..0.1, so that heads start with memories from tens to thousands of tokens
    (Mamba-2's initialisation; with the released dt_bias = 1 a small model forgets within a few tokens)."""
    dt = jnp.exp(jax.random.uniform(key, shape) * (jnp.log(0.1) - jnp.log(0.001)) + jnp.log(0.001))
    return dt + jnp.log(-jnp.expm1(-dt))


def _conv_init(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) * shape[0] ** -0.5
