"""Streaming inverse STFT: windowed overlap-add whose tail is carried from chunk to chunk."""

import jax
import jax.numpy as jnp

from qomni_jax.audio.log_mel import hann_window


def synthesis_frames(spectrum: jax.Array, window_size: int, hop_size: int) -> jax.Array:
    """Windowed time frames of complex spectra, `[..., window // 2 + 1]` -> `[..., window]`.

    The Hann window is scaled so that its overlapping squares sum to one (Griffin and Lim, 1984).
    """
    window = hann_window(window_size)
    scale = hop_size / float((window.astype("float64") ** 2).sum())
    return jnp.fft.irfft(spectrum, window_size) * (window * scale)


def overlap_add(frames: jax.Array, tail: jax.Array, hop_size: int) -> tuple[jax.Array, jax.Array]:
    """Adds overlapping frames, `[B, T, window]` and a tail `[B, window - hop]` -> samples `[B, T * hop]`, next tail.

    The samples begin where the first frame's window begins; the tail holds those that later frames still add to.
    """
    batch, time, window = frames.shape
    blocks = window // hop_size
    grid = frames.reshape(batch, time, blocks, hop_size)
    shifted = [jnp.pad(grid[:, :, b], ((0, 0), (b, blocks - 1 - b), (0, 0))) for b in range(blocks)]
    total = sum(shifted[1:], start=shifted[0])
    total = total.at[:, : blocks - 1].add(tail.reshape(batch, blocks - 1, hop_size))
    return total[:, :time].reshape(batch, -1), total[:, time:].reshape(batch, -1)
