"""Norms of the Qwen3.5 family and of its encoders; statistics are float32 whatever the input type."""

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.precision import at_least_float32


def rms_norm(x: Array, weight: Array, eps: float = 1e-6, *, zero_centred: bool = True) -> Array:
    """RMSNorm over the last axis: `x [..., D]`, `weight [D]` -> `[..., D]` in the type of `x`.

    A zero-centred weight is initialised at 0 and applied as `1 + weight` (Qwen3-Next, Qwen3.5); a plain one is
    initialised at 1 (Qwen3-Omni).
    """
    normed = _normalise(x, eps)
    scale = at_least_float32(weight)
    return (normed * per_channel(1.0 + scale if zero_centred else scale, x.shape)).astype(x.dtype)


def layer_norm(x: Array, scale: Array, bias: Array, eps: float) -> Array:
    """LayerNorm over the last axis: `x [..., D]`, `scale, bias [D]` -> `[..., D]` in the type of `x`."""
    centred = at_least_float32(x)
    centred = centred - jnp.mean(centred, axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + eps)
    scale, bias = (per_channel(at_least_float32(weight), x.shape) for weight in (scale, bias))
    return (normed * scale + bias).astype(x.dtype)


def gated_rms_norm(x: Array, gate: Array, weight: Array, eps: float = 1e-6) -> Array:
    """Norm, plain weight, then `silu(gate)`: `x, gate [..., D]`, `weight [D]` -> `[..., D]` (Qwen3-Next GDN output)."""
    normed = _normalise(x, eps) * per_channel(at_least_float32(weight), x.shape)
    return (normed * jax.nn.silu(at_least_float32(gate))).astype(x.dtype)


def per_channel(weight: Array, shape: tuple[int, ...]) -> Array:
    """`[C] -> [..., C]`, for a product with an array of that shape.

    The gradient of `weight` is then one sum over all leading axes. Left to broadcasting, axes of size 1 stay out of
    it, and XLA's CPU backend takes some 20 times as long for the sum over the middle axis of `[1, T, C]`.
    """
    return jax.lax.broadcast_in_dim(weight, shape, (len(shape) - 1,))


def l2_normalize(x: Array, eps: float = 1e-6) -> Array:
    """Scales the last axis to unit length, `x * rsqrt(sum(x^2) + eps)`, float32 in and out."""
    x = at_least_float32(x)
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + eps)


def _normalise(x: Array, eps: float) -> Array:
    x = at_least_float32(x)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)
