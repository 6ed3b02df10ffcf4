"""Linear maps, norms' weights and how they start; every parameter carries the names of its axes.

The names (`vocab`, `embed`, `heads`, `kv_heads`, `linear_heads`, `mlp`, `experts`, `expert_mlp`, `norm`, `conv`,
`periods`, `layers`) mean nothing by themselves: `parallel.rules` says which mesh axis each is spread over.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.norms import layer_norm, per_channel
from qomni_jax.parallel.rules import constrain

Axes = tuple[str | None, ...]


class Projection(nn.Module):
    """A linear map over the last axis; weights start with variance `1 / fan_in`, a bias at 0.

    Leading axes are folded into one before the product: XLA's CPU backend is about 1.6 times faster on the gradients
    of a two-dimensional product than on those of a batched one.
    """

    features: int
    axes: Axes = (None, None)
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
        kernel = self.param("kernel", with_axes(init, self.axes), (x.shape[-1], self.features))
        # Weights travel to the tokens: left to itself, XLA may gather every device's tokens to where the weights lie.
        kernel = constrain(kernel.astype(x.dtype), *(None if axis == "embed" else axis for axis in self.axes))
        y = x.reshape(-1, x.shape[-1]) @ kernel
        if self.use_bias:
            bias = self.param("bias", with_axes(nn.initializers.zeros, self.axes[1:]), (self.features,))
            y = y + per_channel(bias.astype(x.dtype), y.shape)
        return y.reshape(*x.shape[:-1], self.features)


def projection(features: int, name: str, axes: Axes = (None, None), *, use_bias: bool = False) -> Projection:
    """A named `Projection`; `axes` names the kernel's input and output axis."""
    return Projection(features, axes, use_bias, name=name)


class LayerNorm(nn.Module):
    """LayerNorm over the last axis, with its weights `scale` and `bias`."""

    eps: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale, bias = (
            self.param(name, with_axes(init, ("norm",)), (x.shape[-1],))
            for name, init in (("scale", nn.initializers.ones), ("bias", nn.initializers.zeros))
        )
        return layer_norm(x, scale, bias, self.eps)


def with_axes(init: Callable[..., Any], axes: Axes) -> Callable[..., Any]:
    """An initialiser whose array carries the logical names of its axes (boxed until `unbox`)."""
    return nn.with_logical_partitioning(init, axes)


def norm_weight(module: nn.Module, name: str, size: int, *, zero_centred: bool) -> Array:
    """The weight `[size]` of an RMSNorm: starts at 0 when it is applied as `1 + w`, else at 1."""
    init = nn.initializers.zeros if zero_centred else nn.initializers.ones
    return module.param(name, with_axes(init, ("norm",)), (size,))


def embedding_table(key: Array, shape: tuple[int, ...]) -> Array:
    """Rows of expected length 1: entries with standard deviation `1 / sqrt(D)`."""
    return nn.initializers.normal(shape[-1] ** -0.5)(key, shape, jnp.float32)


def unbox(variables: Any) -> Any:
    """Plain arrays out of what `init` returns, whose arrays carry axis names."""
    return nn.meta.unbox(variables)


def axis_names(variables: Any) -> Any:
    """The tree of `PartitionSpec`s of logical names of what `init` (or its `eval_shape`) returns."""
    return nn.get_partition_spec(variables)


__all__ = [
    "LayerNorm",
    "Projection",
    "axis_names",
    "embedding_table",
    "norm_weight",
    "projection",
    "unbox",
    "with_axes",
]
