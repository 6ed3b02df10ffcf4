"""Log-mel features, in a numpy form (files, data pipelines) and a jax form (losses, accelerators) that agree.

Framing: frame f is centred on its own hop. Its window covers the samples
`[f * hop - edge, f * hop - edge + window)` with `edge = (window - hop) / 2`, and samples outside the recording are
zero. So a recording of n samples has exactly `ceil(n / hop)` frames, whatever batch it travels in, and a frame is
final as soon as `edge` samples (15 ms at the codec's setting) after its hop are known.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.codec import LogMelConfig

_FRAMES_PER_BLOCK = 512


def hz_to_mel(frequency: np.ndarray, mel_scale: str) -> np.ndarray:
    """Frequencies in Hz to mel; "slaney" is linear below 1 kHz, then logarithmic, "htk" is 2595 log10(1 + f/700)."""
    frequency = np.asarray(frequency, np.float64)
    if mel_scale == "htk":
        return 2595.0 * np.log10(1.0 + frequency / 700.0)
    logarithmic = 15.0 + np.log(np.maximum(frequency, 1000.0) / 1000.0) * 27.0 / np.log(6.4)
    return np.where(frequency < 1000.0, frequency * 3.0 / 200.0, logarithmic)


def mel_to_hz(mel: np.ndarray, mel_scale: str) -> np.ndarray:
    """Inverse of `hz_to_mel`."""
    mel = np.asarray(mel, np.float64)
    if mel_scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    logarithmic = 1000.0 * np.exp(np.log(6.4) / 27.0 * (np.maximum(mel, 15.0) - 15.0))
    return np.where(mel < 15.0, mel * 200.0 / 3.0, logarithmic)


@functools.lru_cache(maxsize=16)
def mel_filterbank(config: LogMelConfig) -> np.ndarray:
    """Triangular filters of unit area, float32 `[num_mels, fft_size // 2 + 1]` (Slaney, Auditory Toolbox, 1998)."""
    bins = np.arange(config.fft_size // 2 + 1) * config.sample_rate / config.fft_size
    low, high = hz_to_mel(np.array([config.min_frequency, config.max_frequency]), config.mel_scale)
    edges = mel_to_hz(np.linspace(low, high, config.num_mels + 2), config.mel_scale)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return (np.maximum(triangles, 0.0) * 2.0 / (right - left)).astype(np.float32)


def hann_window(size: int) -> np.ndarray:
    """Periodic Hann window, float32 `[size]`."""
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)).astype(np.float32)


def as_waveform(audio: np.ndarray) -> np.ndarray:
    """One channel of int16 or floating audio `[n]` as float32 in [-1, 1).

    Raises:
      ValueError: audio is not one-dimensional, or is neither int16 nor floating.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1:
        raise ValueError(f"audio of shape {audio.shape}: accepted is one channel, shape [samples]")
    if audio.dtype == np.int16:
        return audio.astype(np.float32) / 32_768.0
    if not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"audio of dtype {audio.dtype}: accepted is int16 or a floating type")
    return audio.astype(np.float32, copy=False)


def num_frames(num_samples: int, config: LogMelConfig) -> int:
    """Frames of a recording of `num_samples` samples."""
    return -(-num_samples // config.hop_size)


def log_mel(audio: np.ndarray, config: LogMelConfig) -> np.ndarray:
    """Natural-log mel spectrogram of one recording, int16 or float `[n]` -> float32 `[ceil(n / hop), num_mels]`.

    Raises:
      ValueError: as `as_waveform`.
    """
    waveform = as_waveform(audio)
    frames = num_frames(len(waveform), config)
    edge = (config.window_size - config.hop_size) // 2
    padded = np.zeros(frames * config.hop_size + 2 * edge, np.float32)
    padded[edge : edge + len(waveform)] = waveform
    features = np.empty((frames, config.num_mels), np.float32)
    if not frames:
        return features
    windows = np.lib.stride_tricks.sliding_window_view(padded, config.window_size)[:: config.hop_size]
    window, filters = hann_window(config.window_size), mel_filterbank(config).T
    for start in range(0, frames, _FRAMES_PER_BLOCK):
        block = slice(start, start + _FRAMES_PER_BLOCK)
        spectrum = np.abs(np.fft.rfft(windows[block] * window, config.fft_size))
        if config.power != 1.0:
            spectrum **= config.power
        features[block] = np.log(np.maximum(spectrum @ filters, config.clip))
    return features


def frame_signal(signal: jax.Array, window_size: int, hop_size: int) -> jax.Array:
    """Overlapping frames, `[..., n]` -> `[..., (n - window) // hop + 1, window]`; built from shifted blocks, so its
    gradient is a sum of slices."""
    frames = (signal.shape[-1] - window_size) // hop_size + 1
    blocks = -(-window_size // hop_size)
    length = (frames + blocks - 1) * hop_size
    excess = max(length - signal.shape[-1], 0)
    signal = jnp.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, excess)])[..., :length]
    grid = signal.reshape(*signal.shape[:-1], -1, hop_size)
    shifted = [grid[..., b : b + frames, :] for b in range(blocks)]
    return jnp.concatenate(shifted, axis=-1)[..., :window_size]


def magnitude_stft(signal: jax.Array, fft_size: int, window_size: int, hop_size: int) -> jax.Array:
    """Magnitudes `[..., n]` -> `[..., frames, fft_size // 2 + 1]`, floored at 1e-6 where the gradient is undefined."""
    spectrum = jnp.fft.rfft(frame_signal(signal, window_size, hop_size) * hann_window(window_size), fft_size)
    return jnp.sqrt(jnp.maximum(spectrum.real**2 + spectrum.imag**2, 1e-12))


def log_mel_jax(waveform: jax.Array, config: LogMelConfig) -> jax.Array:
    """The same features of floating audio under jit and grad, `[..., n]` -> float32 `[..., ceil(n / hop), num_mels]`.

    A recording padded with zeros has the frames of the recording alone, followed by those of the padding.
    """
    edge = (config.window_size - config.hop_size) // 2
    excess = -waveform.shape[-1] % config.hop_size
    padding = [(0, 0)] * (waveform.ndim - 1) + [(edge, edge + excess)]
    padded = jnp.pad(waveform.astype(jnp.float32), padding)
    spectrum = magnitude_stft(padded, config.fft_size, config.window_size, config.hop_size)
    if config.power != 1.0:
        spectrum = spectrum**config.power
    mel = jnp.matmul(spectrum, mel_filterbank(config).T, precision=jax.lax.Precision.HIGHEST)
    return jnp.log(jnp.maximum(mel, config.clip))
