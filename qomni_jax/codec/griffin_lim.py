"""Phase reconstruction without a network, the baseline that the vocoder is compared with."""

import librosa
import numpy as np

from qomni_jax.audio.log_mel import mel_filterbank
from qomni_jax.config.codec import LogMelConfig

_INVERSION_ITERATIONS = 15


def non_negative_inverse(filters: np.ndarray, mel: np.ndarray) -> np.ndarray:
    """Non-negative spectra whose filtered values are nearest, `[M, F]` and `[M, T]` -> `[F, T]`.

    Accelerated projected gradient (FISTA, Beck and Teboulle 2009) from the clipped pseudo-inverse.
    """
    step = 1.0 / np.linalg.norm(filters, 2) ** 2
    current = np.maximum(np.linalg.pinv(filters) @ mel, 0.0)
    probe, momentum = current, 1.0
    for _ in range(_INVERSION_ITERATIONS):
        following = np.maximum(probe - step * (filters.T @ (filters @ probe - mel)), 0.0)
        next_momentum = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        probe = following + np.float32((momentum - 1.0) / next_momentum) * (following - current)
        current, momentum = following, next_momentum
    return current


def griffin_lim(mel: np.ndarray, config: LogMelConfig, iterations: int = 32, seed: int = 0) -> np.ndarray:
    """Speech of a log-mel by fast Griffin-Lim, `[frames, num_mels]` -> float32 `[frames * hop]`.

    The mel filters are inverted by non-negative least squares. Follows Perraudin, Balazs
    and Sondergaard (2013) with momentum 0.99, in librosa.

    Raises:
      ValueError: mel is not `[frames, num_mels]`, or iterations is not positive.
    """
    mel = np.asarray(mel, np.float32)
    if mel.ndim != 2 or mel.shape[1] != config.num_mels:
        raise ValueError(f"log-mel of shape {mel.shape}: accepted is [frames, {config.num_mels}]")
    if iterations < 1:
        raise ValueError(f"iterations = {iterations}: accepted is 1 or more")
    if not len(mel):
        return np.zeros(0, np.float32)
    linear = np.exp(np.maximum(mel, np.log(config.clip))).T
    magnitude = non_negative_inverse(mel_filterbank(config), linear) ** (1.0 / config.power)
    edge = (config.window_size - config.hop_size) // 2
    # librosa centres the window in fft_size samples, so its frame 0 starts half a difference before ours.
    offset = edge + (config.fft_size - config.window_size) // 2
    waveform = librosa.griffinlim(
        magnitude,
        n_iter=iterations,
        hop_length=config.hop_size,
        win_length=config.window_size,
        n_fft=config.fft_size,
        center=False,
        momentum=0.99,
        random_state=seed,
    )
    samples = len(mel) * config.hop_size
    return np.asarray(waveform[offset : offset + samples], np.float32)
