"""What a Gated DeltaNet does between its projections: convolution, norm, gates and the delta rule, apart or fused."""

import functools
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.decoder import GatedDeltaNetConfig
from qomni_jax.ops.conv import causal_depthwise_conv
from qomni_jax.ops.gated_delta_rule import gated_delta_rule, resolve_backend
from qomni_jax.ops.precision import at_least_float32
from qomni_jax.parallel.kernels import sharded
from qomni_jax.parallel.rules import mesh_axes


class MixerInputs(NamedTuple):
    """What the projections of `[B, T, D]` give, the layer's own weights, and the state before the first token."""

    qkv: Array  # [B, T, channels]
    conv_weight: Array  # [W, channels]
    a: Array  # [B, T, HV] float32
    b: Array  # [B, T, HV] float32
    a_log: Array  # [HV]
    dt_bias: Array  # [HV]
    conv: Array  # [B, W-1, channels]
    state: Array  # [B, HV, DK, DV] float32


def mix(
    c: GatedDeltaNetConfig, x: MixerInputs, segment_ids: Array | None, real: Array | None, *, prefill: bool
) -> tuple[Array, Array]:
    """Output `[B, T, HV, DV]` and the state after the last token; `real [B, T]` says where there is a token.

    With `prefill`, where the backend is `pallas_tpu`, one kernel does all of it, if its heads fit
    (`pallas_tpu.fused_fits`) and the mesh does not spread them. That kernel has no backward pass: a gradient, if one is
    asked for, is that of the parts. Training keeps to the parts in both directions.
    """
    if prefill and _runs_fused(c, x.qkv.shape[1]):
        return _mix_fused(c, x, segment_ids, real)
    return _mix_parts(c, x, segment_ids, real)


def rule_inputs(
    c: GatedDeltaNetConfig, x: MixerInputs, segment_ids: Array | None, real: Array | None
) -> tuple[Array, Array, Array, Array, Array]:
    """q, k, v, g and beta, as `delta_rule` takes them: q and k of any length."""
    batch, steps = x.qkv.shape[:2]
    key_dim = c.num_key_heads * c.head_key_dim
    g = -jnp.exp(at_least_float32(x.a_log)) * jax.nn.softplus(x.a + x.dt_bias)
    beta = jax.nn.sigmoid(x.b)
    mixed, _ = causal_depthwise_conv(x.qkv, x.conv_weight, x.conv, segment_ids)
    q, k, v = jnp.split(jax.nn.silu(mixed), [key_dim, 2 * key_dim], axis=-1)
    q, k = (y.reshape(batch, steps, c.num_key_heads, c.head_key_dim) for y in (q, k))
    v = v.reshape(batch, steps, c.num_value_heads, c.head_value_dim)
    if real is not None:  # convolution carries the last tokens into the padding behind them
        heads, channels = real[..., None], real[..., None, None]
        k, v = jnp.where(channels, k, 0.0), jnp.where(channels, v, 0)
        g, beta = jnp.where(heads, g, 0.0), jnp.where(heads, beta, 0.0)
    return q, k, v, g, beta


def delta_rule(
    c: GatedDeltaNetConfig,
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    beta: Array,
    state: Array,
    segment_ids: Array | None = None,
) -> tuple[Array, Array]:
    """The gated delta rule of q and k scaled to unit length, each device on its own rows and heads."""

    def rule(*args: Any) -> tuple[Array, Array]:
        return gated_delta_rule(*args, backend=c.backend, chunk_size=c.chunk_size, normalize=True)

    tokens = ("batch", None, "linear_heads", None)
    states = ("batch", "linear_heads", None, None)
    gates = tokens[:3]
    axes = (tokens, tokens, tokens, gates, gates, states, ("batch", None))
    return sharded(rule, axes, (tokens, states))(q, k, v, g, beta, state, segment_ids)


def _mix_parts(
    c: GatedDeltaNetConfig, x: MixerInputs, segment_ids: Array | None, real: Array | None
) -> tuple[Array, Array]:
    return delta_rule(c, *rule_inputs(c, x, segment_ids, real), x.state, segment_ids)


def _runs_fused(c: GatedDeltaNetConfig, steps: int) -> bool:
    if resolve_backend(c.backend, steps) != "pallas_tpu":
        return False
    from qomni_jax.ops.gated_delta_rule.pallas_tpu import fused_fits

    # q, k and v stand side by side in one array, which cannot be cut into equal parts of heads.
    mesh = jax.sharding.get_abstract_mesh()
    spread = any(not mesh.empty and mesh.shape.get(axis, 1) > 1 for axis in mesh_axes("linear_heads"))
    heads = c.num_key_heads, c.num_value_heads, c.head_key_dim, c.head_value_dim
    return not spread and fused_fits(*heads, c.conv_width, c.chunk_size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mix_fused(
    c: GatedDeltaNetConfig, x: MixerInputs, segment_ids: Array | None, real: Array | None
) -> tuple[Array, Array]:
    from qomni_jax.ops.gated_delta_rule.pallas_tpu import gated_delta_rule_fused
    from qomni_jax.ops.gated_delta_rule.pallas_tpu_fused import NO_TOKEN

    if real is not None:
        x = x._replace(**{name: jnp.where(real[..., None], getattr(x, name), NO_TOKEN) for name in ("a", "b")})

    def kernel(*args: Any) -> tuple[Array, Array]:
        return gated_delta_rule_fused(
            *args,
            key_heads=c.num_key_heads,
            value_heads=c.num_value_heads,
            key_dim=c.head_key_dim,
            chunk_size=c.chunk_size,
        )

    rows, heads = ("batch", None, None), (None,)
    states = ("batch", None, None, None)
    axes = (rows, (None, None), rows, rows, heads, heads, rows, states, ("batch", None))
    return sharded(kernel, axes, (states, states))(*x, segment_ids)


def _mix_fused_forward(
    c: GatedDeltaNetConfig, x: MixerInputs, segment_ids: Array | None, real: Array | None
) -> tuple[tuple[Array, Array], Any]:
    return jax.vjp(lambda x: _mix_parts(c, x, segment_ids, real), x)


def _mix_fused_backward(c: GatedDeltaNetConfig, pull: Any, cotangents: tuple[Array, Array]) -> tuple[Any, None, None]:
    return *pull(cotangents), None, None


_mix_fused.defvjp(_mix_fused_forward, _mix_fused_backward)
