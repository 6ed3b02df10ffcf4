"""The convolutional stacks between frames and samples (SEANet; Tagliasacchi et al. 2020, Défossez et al. 2022)."""

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.codec.causal_conv import CausalConv, TransposedConv
from qomni_jax.config.waveform_codec import ConvStackConfig
from qomni_jax.layers.linear import with_axes
from qomni_jax.ops.snake import snake_beta


class Activation(nn.Module):
    """`snake_beta`, with its parameters `alpha` and `beta` a channel, or `elu`: `x [..., C]` -> the same."""

    kind: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if self.kind == "elu":
            return jax.nn.elu(x)
        zeros = with_axes(nn.initializers.zeros, ("norm",))
        alpha, beta = (self.param(name, zeros, (x.shape[-1],)) for name in ("alpha", "beta"))
        return snake_beta(x, alpha, beta)


class ResidualUnit(nn.Module):
    """Adds what a dilated convolution and one over a single step make of `x [B, T, C]`."""

    config: ConvStackConfig
    dilation: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c, width = self.config, x.shape[-1]
        hidden = Activation(c.activation, name="act1")(x)
        hidden = CausalConv(width // c.compress, c.residual_kernel_size, dilation=self.dilation, name="conv1")(hidden)
        hidden = Activation(c.activation, name="act2")(hidden)
        return x + CausalConv(width, 1, name="conv2")(hidden)


class DecoderStack(nn.Module):
    """Features `x [B, T, D]` to samples `[B, T * product of rates]`.

    `delays[i]` says how many steps at the start of a stream belong to no recording once it is resampled i + 1 times;
    where there are any, they are held at zero, as if they were the padding before it, for the convolutions to come.
    `seen [B]`: steps of the stream before `x`.
    """

    config: ConvStackConfig
    delays: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array, seen: Array) -> Array:
        c = self.config
        width, steps = c.frame_channels, 1
        seen = jnp.minimum(seen, len(c.rates))  # no delay is longer: counts of samples stay small in a long stream
        x = CausalConv(width, c.kernel_size, name="first")(x)
        for index, (rate, delay) in enumerate(zip(c.rates, self.delays, strict=True)):
            width, steps = width // 2, steps * rate
            x = Activation(c.activation, name=f"act_{index}")(x)
            x = TransposedConv(width, 2 * rate, rate, name=f"resample_{index}")(x)
            x = _from(x, seen * steps, delay)
            for number, dilation in enumerate(c.dilations):
                x = ResidualUnit(c, dilation, name=f"unit_{index}_{number}")(x)
                x = _from(x, seen * steps, delay)
        x = Activation(c.activation, name="act")(x)
        return CausalConv(1, c.last_kernel_size, name="last")(x)[..., 0]


class EncoderStack(nn.Module):
    """Samples `x [B, T]` to features `[B, T / product of rates, features]`, and how many of these a row has, `[B]`.

    `lengths [B]` of the samples are the row's, what follows is padding. A strided convolution whose last step is not
    complete sees zeros there, as every convolution does before the start.
    """

    config: ConvStackConfig
    features: int

    @nn.compact
    def __call__(self, x: Array, lengths: Array) -> tuple[Array, Array]:
        c = self.config
        width = c.channels
        x = CausalConv(width, c.kernel_size, name="first")(x[..., None])
        for index, rate in enumerate(reversed(c.rates)):
            for number, dilation in enumerate(c.dilations):
                x = ResidualUnit(c, dilation, name=f"unit_{index}_{number}")(x)
            width *= 2
            x = Activation(c.activation, name=f"act_{index}")(x)
            x = jnp.where((jnp.arange(x.shape[1]) < lengths[:, None])[..., None], x, 0)
            x = CausalConv(width, 2 * rate, rate, name=f"resample_{index}")(x)
            lengths = -(-lengths // rate)
        x = Activation(c.activation, name="act")(x)
        return CausalConv(self.features, c.last_kernel_size, name="last")(x), lengths


def _from(x: Array, seen: Array, start: int) -> Array:
    """`x [B, T, C]` with zeros where a step of the stream comes before `start`; `seen [B]` came before `x`."""
    if not start:
        return x
    return jnp.where((seen[:, None] + jnp.arange(x.shape[1]) >= start)[..., None], x, 0)
