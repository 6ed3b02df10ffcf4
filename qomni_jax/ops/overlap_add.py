"""Overlap-add whose tail is carried from chunk to chunk."""

from jax import Array
import jax.numpy as jnp


def overlap_add(frames: Array, tail: Array, hop: int) -> tuple[Array, Array]:
    """Adds overlapping frames, `[B, T, window, ...]` and a tail `[B, window - hop, ...]` -> `[B, T * hop, ...]`, tail.

    The output begins where the first frame begins; the tail holds what later frames still add to. `hop` divides the
    window.
    """
    batch, time, window, *rest = frames.shape
    blocks = window // hop
    grid = frames.reshape(batch, time, blocks, hop, *rest)
    padding = [(0, 0)] * (grid.ndim - 3)
    shifted = [jnp.pad(grid[:, :, b], ((0, 0), (b, blocks - 1 - b), *padding)) for b in range(blocks)]
    total = sum(shifted[1:], start=shifted[0])
    total = total.at[:, : blocks - 1].add(tail.reshape(batch, blocks - 1, hop, *rest))
    tail = total[:, time:].reshape(batch, window - hop, *rest)
    return total[:, :time].reshape(batch, time * hop, *rest), tail


def transposed_conv(x: Array, kernel: Array, tail: Array, stride: int) -> tuple[Array, Array]:
    """Transposed convolution that goes on from a tail: `x [B, T, I] -> [B, T * stride, O]`, next tail.

    `kernel [I, K, O]` for a dense one, `[K, C]` for one channel by channel; K is a multiple of the stride. A step adds
    to the K output steps from `t * stride` on; `tail [B, K - stride, O]` is what the steps before `x` have added to
    those that are not out yet, zeros at a start. No bias.
    """
    if kernel.ndim == 2:
        return overlap_add(x[:, :, None] * kernel, tail, stride)
    inner, taps, outer = kernel.shape
    spread = x.reshape(-1, inner) @ kernel.reshape(inner, taps * outer)
    return overlap_add(spread.reshape(*x.shape[:2], taps, outer), tail, stride)
