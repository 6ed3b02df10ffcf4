"""Causal convolutions over time with a carried tail."""

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.norms import per_channel


def causal_depthwise_conv(
    x: Array, weight: Array, state: Array, segment_ids: Array | None = None, ends: Array | None = None
) -> tuple[Array, Array]:
    """Depthwise convolution over time that sees the past alone.

    `x [B, T, C]`, `weight [W, C]` (tap W-1 multiplies the current step), `state [B, W-1, C]`: the inputs just before
    `x`, zeros at a start. With `segment_ids [B, T]` a step sees its own segment alone (the state belongs to the first).
    Returns `(y [B, T, C], state)`, the state ready for the next call; with `ends [B]`, the state after that many steps
    of each row (the rest of a row is padding). No bias, no activation.
    """
    width = weight.shape[0]
    padded = jnp.concatenate([state.astype(x.dtype), x], axis=1)
    steps = x.shape[1]
    y = x * per_channel(weight[-1], x.shape)
    for tap in range(width - 1):
        tapped = padded[:, tap : tap + steps] * per_channel(weight[tap], x.shape)
        if segment_ids is not None:
            past = jnp.pad(segment_ids, ((0, 0), (width - 1 - tap, 0)), mode="edge")[:, :steps]
            tapped = jnp.where((past == segment_ids)[..., None], tapped, 0.0)
        y = y + tapped
    return y, conv_state_after(x, state, ends)


def conv_state_after(x: Array, state: Array, ends: Array | None = None) -> Array:
    """The state that `causal_depthwise_conv` returns: `[B, T, C], [B, W-1, C]` and, or not, `[B]` -> `[B, W-1, C]`."""
    padded, past = jnp.concatenate([state.astype(x.dtype), x], axis=1), state.shape[1]
    if ends is None:
        return padded[:, x.shape[1] :]
    return jax.vmap(lambda row, end: jax.lax.dynamic_slice_in_dim(row, end, past))(padded, ends)


def dense_conv(x: Array, kernel: Array, *, stride: int = 1, dilation: int = 1) -> Array:
    """Convolution over time without padding: `x [B, P + T, I]`, `kernel [K, I, O]` -> `[B, T / stride, O]`.

    `P = (K - 1) * dilation + 1 - stride` steps of context stand before the T that are new, `stride` divides T. The
    last tap of the last output step multiplies the last input step. No bias.
    """
    layout = ("NTC", "TIO", "NTC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride,), "VALID", rhs_dilation=(dilation,), dimension_numbers=layout
    )
