"""Frames of an inverse STFT, to be overlapped and added."""

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
