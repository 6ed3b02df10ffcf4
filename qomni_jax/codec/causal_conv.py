"""Causal convolutions that go on where the call before ended.

What has to be known of the past lies in the collection `stream`: a call reads it and writes what the next one needs, so
that any chunking of a stream is the same computation. At a start all of it is zeros, the padding of a recording.
"""

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.layers.linear import Axes, LayerNorm, projection, with_axes
from qomni_jax.ops.conv import causal_depthwise_conv, dense_conv
from qomni_jax.ops.norms import per_channel
from qomni_jax.ops.overlap_add import transposed_conv

_NORM_EPS = 1e-6
_EXPANSION = 4


def with_past(module: nn.Module, name: str, x: Array, past: int, fresh: Array | None = None) -> Array:
    """`x [B, T, ...]` behind the `past` steps before it, `[B, past + T, ...]`; keeps the last ones for the next call.

    `fresh [B]`: rows that begin here; their past is their first step, repeated.
    """
    kept = module.variable("stream", name, jnp.zeros, (x.shape[0], past, *x.shape[2:]), x.dtype)
    before = kept.value
    if fresh is not None:
        before = jnp.where(fresh.reshape(-1, *(1,) * (x.ndim - 1)), x[:, :1], before)
    joined = jnp.concatenate([before, x], axis=1)
    kept.value = joined[:, joined.shape[1] - past :]
    return joined


class CausalConv(nn.Module):
    """`x [B, T, I] -> [B, T / stride, features]`: an output step sees its own input steps and those before them.

    `stride` divides T. `fresh` as in `with_past`.
    """

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array, fresh: Array | None = None) -> Array:
        shape = (self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", with_axes(_fan_in((0, 1)), (None, "embed", "conv")), shape).astype(x.dtype)
        past = (self.kernel_size - 1) * self.dilation + 1 - self.stride
        if past:
            x = with_past(self, "past", x, past, fresh)
        return _with_bias(self, dense_conv(x, kernel, stride=self.stride, dilation=self.dilation))


class TransposedConv(nn.Module):
    """`x [B, T, I] -> [B, T * stride, features]`, without the last `kernel_size - stride` steps, which are to come.

    `depthwise`: channel by channel, I = features. `stride` divides the kernel size.
    """

    features: int
    kernel_size: int
    stride: int
    depthwise: bool = False
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape: tuple[int, ...] = (self.kernel_size, self.features)
        axes: Axes = (None, "conv")
        if not self.depthwise:
            shape, axes = (x.shape[-1], *shape), ("embed", *axes)
        kernel = self.param("kernel", with_axes(_fan_in(tuple(range(len(shape) - 1))), axes), shape).astype(x.dtype)
        overlap = (x.shape[0], self.kernel_size - self.stride, self.features)
        tail = self.variable("stream", "tail", jnp.zeros, overlap, x.dtype)
        y, tail.value = transposed_conv(x, kernel, tail.value, self.stride)
        return _with_bias(self, y)


class ConvNeXtBlock(nn.Module):
    """Causal ConvNeXt block, `x [B, T, C]` -> the same: depthwise convolution, LayerNorm, MLP, scale, residual."""

    kernel_size: int = 7

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        taps = self.param("taps", with_axes(_fan_in((0,)), (None, "conv")), (self.kernel_size, width)).astype(x.dtype)
        bias = self.param("bias", with_axes(nn.initializers.zeros, ("conv",)), (width,)).astype(x.dtype)
        scale = self.param("scale", with_axes(nn.initializers.constant(1e-6), ("norm",)), (width,)).astype(x.dtype)
        past = self.variable("stream", "past", jnp.zeros, (x.shape[0], self.kernel_size - 1, width), x.dtype)
        hidden, past.value = causal_depthwise_conv(x, taps, past.value)
        hidden = LayerNorm(_NORM_EPS, name="norm")(hidden + per_channel(bias, hidden.shape))
        hidden = projection(_EXPANSION * width, "fc1", ("embed", "mlp"), use_bias=True)(hidden)
        hidden = jax.nn.gelu(hidden, approximate=False)
        hidden = projection(width, "fc2", ("mlp", "embed"), use_bias=True)(hidden)
        return x + hidden * per_channel(scale, hidden.shape)


def _with_bias(module: CausalConv | TransposedConv, y: Array) -> Array:
    if not module.use_bias:
        return y
    bias = module.param("bias", with_axes(nn.initializers.zeros, ("conv",)), (module.features,))
    return y + per_channel(bias.astype(y.dtype), y.shape)


def _fan_in(inputs: tuple[int, ...]) -> nn.initializers.Initializer:
    """Variance 1 / (what is added up into an output), which the axes `inputs` of the kernel count."""
    return nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=inputs, out_axis=-1)
