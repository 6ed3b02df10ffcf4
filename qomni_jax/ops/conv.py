"""Causal depthwise convolution with a carried tail."""

from jax import Array
import jax.numpy as jnp


def causal_depthwise_conv(x: Array, weight: Array, state: Array) -> tuple[Array, Array]:
    """Depthwise convolution over time that sees the past alone.

    `x [B, T, C]`, `weight [W, C]` (tap W-1 multiplies the current step), `state [B, W-1, C]`: the inputs just before
    `x`, zeros at a start. Returns `(y [B, T, C], state)`, the state ready for the next call. No bias, no activation.
    """
    width = weight.shape[0]
    padded = jnp.concatenate([state.astype(x.dtype), x], axis=1)
    steps = x.shape[1]
    y = sum(padded[:, tap : tap + steps] * weight[tap] for tap in range(width))
    return y, padded[:, padded.shape[1] - (width - 1) :]
