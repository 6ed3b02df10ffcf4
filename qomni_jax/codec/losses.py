"""Losses between waveforms: multi-resolution STFT (Parallel WaveGAN, Yamamoto et al. 2020) and log-mel L1."""

import jax
import jax.numpy as jnp

from qomni_jax.audio.log_mel import log_mel_jax, magnitude_stft
from qomni_jax.config.codec import LogMelConfig

# (fft size, window, hop) in samples: fine in time, balanced, fine in frequency.
RESOLUTIONS = ((512, 320, 80), (1024, 640, 160), (2048, 1200, 300))
_MAGNITUDE_FLOOR = 1e-3


def stft_loss(predicted: jax.Array, target: jax.Array) -> jax.Array:
    """Mean over three resolutions of log-magnitude L1 plus spectral convergence, `[B, n]` twice -> scalar."""
    total = jnp.zeros(())
    for fft_size, window_size, hop_size in RESOLUTIONS:
        ours = magnitude_stft(predicted, fft_size, window_size, hop_size)
        theirs = magnitude_stft(target, fft_size, window_size, hop_size)
        log_distance = jnp.abs(jnp.log(ours + _MAGNITUDE_FLOOR) - jnp.log(theirs + _MAGNITUDE_FLOOR))
        norm = jnp.sqrt(jnp.sum((ours - theirs) ** 2) + 1e-12)
        total += jnp.mean(log_distance) + norm / (jnp.sqrt(jnp.sum(theirs**2)) + 1e-3)
    return total / len(RESOLUTIONS)


def mel_loss(predicted: jax.Array, target: jax.Array, config: LogMelConfig) -> jax.Array:
    """L1 between the log-mel of waveforms `[B, n]` and a log-mel `[B, >= n // hop, num_mels]` -> scalar.

    The last frames, whose window reaches past the waveform, are left out.
    """
    edge = (config.window_size - config.hop_size) // 2
    frames = (predicted.shape[-1] - edge) // config.hop_size
    return jnp.mean(jnp.abs(log_mel_jax(predicted, config)[:, :frames] - target[:, :frames]))
