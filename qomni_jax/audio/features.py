"""Log-mel features of the audio encoders: a numpy form (loaders), a jax form (accelerators) and a stream, which agree.

Frame f is centred on sample `f * hop`; its window reaches half its size to both sides, and where it leaves the
recording, the recording is reflected about its first or last sample. A recording of n samples has `n // hop` frames,
whatever batch it travels in: the released extractor calls it dropping the last frame. A value is
`(max(log10(max(mel power, 1e-10)), floor) + 4) / 4`, the Whisper extractor's formula with 128 mels.

Recordings shorter than the reflection (half a window and one sample, 201) are reflected as often as needed, back and
forth, as numpy and librosa do. Less than a hop has no frame.
"""

from collections.abc import Callable, Iterable, Iterator
import concurrent.futures
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from qomni_jax.audio.log_mel import as_waveform, frame_signal, hann_window, mel_filterbank
from qomni_jax.config.audio import AudioFeatureConfig

_FRAMES_PER_BLOCK = 256
_UTTERANCE_RANGE = 8.0
_LOG10 = np.float32(1.0 / np.log(10.0))


def reflect(positions, num_samples):
    """Positions of an endless signal that goes back and forth over `num_samples` samples, as indices into these."""
    last = num_samples - 1
    period = 2 * last + (num_samples == 1)
    return abs((positions + last) % period - last)


def encoder_features(audio: np.ndarray, config: AudioFeatureConfig, *, threads: int = 1) -> np.ndarray:
    """Features of one recording, int16 or float `[n]` -> float32 `[n // hop, num_mels]`.

    Needs little more memory than its result: it works in blocks of frames. Each thread takes a part of the recording;
    the result is the same.

    Raises:
      ValueError: audio is not one-dimensional, or is neither int16 nor floating.
    """
    waveform = as_waveform(audio)
    features = np.empty((config.num_frames(len(waveform)), config.num_mels), np.float32)
    level = config.floor_level if config.floor == "fixed" else None
    # Whole blocks to every thread: a frame's sums are those of one thread.
    blocks = -(-len(features) // _FRAMES_PER_BLOCK)
    share = max(-(-blocks // threads), 1) * _FRAMES_PER_BLOCK

    def fill(first: int) -> None:
        _fill_log10_mel(features[first : first + share], first, waveform, 0, len(waveform), config, level)

    starts = range(0, len(features), share)
    if len(starts) > 1:
        with concurrent.futures.ThreadPoolExecutor(len(starts)) as pool:
            list(pool.map(fill, starts))
    else:
        fill(0)
    return features if level is not None else _scale(features, features.max(initial=-np.inf) - _UTTERANCE_RANGE)


def encoder_features_jax(
    waveform: jax.Array, config: AudioFeatureConfig, lengths: jax.Array | None = None
) -> jax.Array:
    """The same features under jit and grad, floating `[..., n]` -> float32 `[..., n // hop, num_mels]`.

    `lengths`, integers `[...]` from 1 to n, are the samples of each recording in a padded batch. A recording then has
    the features it has alone, followed by zeros.
    """
    frames = config.num_frames(waveform.shape[-1])
    shape = (*waveform.shape[:-1], frames, config.num_mels)
    if not frames:
        return jnp.zeros(shape, jnp.float32)
    counts = jnp.broadcast_to(waveform.shape[-1] if lengths is None else lengths, waveform.shape[:-1])[..., None]
    half = config.window_size // 2
    positions = reflect(jnp.arange(-half, (frames - 1) * config.hop_size + half), counts)
    # Frames past a recording's own are of no use, but their positions are still within the row.
    signal = jnp.take_along_axis(waveform.astype(jnp.float32), positions, axis=-1)
    windows = frame_signal(signal, config.window_size, config.hop_size) * hann_window(config.window_size)
    spectrum = jnp.fft.rfft(windows)
    power = spectrum.real**2 + spectrum.imag**2
    mel = jnp.matmul(power, mel_filterbank(config.mel).T, precision=jax.lax.Precision.HIGHEST)
    features = jnp.log(jnp.maximum(mel, config.mel.clip)) * _LOG10
    valid = (jnp.arange(frames) < counts // config.hop_size)[..., None]
    if config.floor == "fixed":
        level = jnp.float32(config.floor_level)
    else:
        level = jnp.where(valid, features, -jnp.inf).max((-2, -1), keepdims=True) - _UTTERANCE_RANGE
    return jnp.where(valid, (jnp.maximum(features, level) + 4.0) / 4.0, 0.0)


class FeatureStream:
    """Features of a recording that is still growing; together they are those of `encoder_features` on the whole.

    A frame is final as soon as the half window after its centre is known: 40 samples (2.5 ms) after its hop at the
    system's setting, for the first frame 41.

    The floor "utterance" is refused. It depends on the loudest moment, which may still come, so frames handed out now
    would have to be taken back; whoever can wait for the end has the whole recording and calls `encoder_features`.
    """

    def __init__(self, config: AudioFeatureConfig):
        """Raises ValueError for a config whose floor is not known in advance."""
        if config.floor != "fixed":
            raise ValueError(
                f"AudioFeatureConfig.floor = {config.floor!r} of a stream: accepted is 'fixed' (the utterance floor "
                "needs the whole recording, see encoder_features)"
            )
        self._config = config
        self._held = np.zeros(0, np.float32)
        self._start = 0
        self._frames = 0
        self._finished = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Frames that these samples make final, int16 or float `[k]`, any k -> float32 `[frames, num_mels]`.

        Raises:
          ValueError: as `encoder_features`.
          RuntimeError: the stream is finished.
        """
        self._require_open("push")
        self._held = np.concatenate([self._held, as_waveform(samples)])
        half, hop = self._config.window_size // 2, self._config.hop_size
        received = self._start + len(self._held)
        # The first window is reflected about sample 0, and so needs one sample more than its half.
        final = (received - half) // hop + 1 if received > half else 0
        return self._take(min(final, self._config.num_frames(received)))

    def finish(self) -> np.ndarray:
        """The frames held back, float32 `[frames, num_mels]`; the stream accepts no more samples.

        Raises:
          RuntimeError: the stream is already finished.
        """
        self._require_open("finish")
        self._finished = True
        return self._take(self._config.num_frames(self._start + len(self._held)))

    def _take(self, stop: int) -> np.ndarray:
        """Frames from the first that has not been handed out up to `stop`; forgets the samples that only they need."""
        received = self._start + len(self._held)
        features = np.empty((max(stop - self._frames, 0), self._config.num_mels), np.float32)
        level = self._config.floor_level
        _fill_log10_mel(features, self._frames, self._held, self._start, received, self._config, level)
        self._frames = stop
        start = max(stop * self._config.hop_size - self._config.window_size // 2, 0)
        self._held, self._start = self._held[start - self._start :].copy(), start
        return features

    def _require_open(self, action: str) -> None:
        if self._finished:
            raise RuntimeError(f"{action} on a finished stream: accepted is a new FeatureStream")


def feature_blocks(read: Callable[[], Iterable[np.ndarray]], config: AudioFeatureConfig) -> Iterator[np.ndarray]:
    """The frames of `encoder_features` in blocks `[n, num_mels]`, in constant memory.

    `read` gives the samples of the recording in blocks, from the start whenever it is called. The floor "utterance"
    needs the loudest moment before the first frame: such a recording is read twice.

    Raises ValueError as `encoder_features`.
    """
    if config.floor == "utterance":
        unbounded = dataclasses.replace(config, floor="fixed", floor_level=math.log10(config.mel.clip))
        loudest = max(float(frames.max(initial=-np.inf)) for frames in feature_blocks(read, unbounded))
        config = dataclasses.replace(config, floor="fixed", floor_level=4.0 * loudest - 4.0 - _UTTERANCE_RANGE)
    stream = FeatureStream(config)
    for block in read():
        yield stream.push(block)
    yield stream.finish()


def _scale(features: np.ndarray, level: float) -> np.ndarray:
    np.maximum(features, level, out=features)
    features += 4.0
    features /= 4.0
    return features


@functools.lru_cache(maxsize=16)
def _mel_bands(config: AudioFeatureConfig) -> tuple[tuple[slice, slice, np.ndarray], ...]:
    """The filterbank `[bins, num_mels]` in bands of neighbouring filters, (bins, mels, weights), without most zeros."""
    filters = mel_filterbank(config.mel).T
    bands = []
    for first in range(0, config.num_mels, 32):
        mels = slice(first, first + 32)
        used = np.flatnonzero(filters[:, mels].any(axis=1))
        bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
        bands.append((bins, mels, np.ascontiguousarray(filters[bins, mels])))
    return tuple(bands)


def _fill_log10_mel(
    features: np.ndarray,
    first: int,
    held: np.ndarray,
    start: int,
    num_samples: int,
    config: AudioFeatureConfig,
    level: float | None,
) -> None:
    """Writes log10 of mel power of the frames from `first` on into `features`; with a `level`, floored and scaled.

    `held` are the samples of the recording from `start` on; `num_samples` is the length of the recording.
    """
    half, hop, size = config.window_size // 2, config.hop_size, config.window_size
    window, clip = hann_window(size), np.float32(config.mel.clip)
    for done in range(0, len(features), _FRAMES_PER_BLOCK):
        block = features[done : done + _FRAMES_PER_BLOCK]
        left = (first + done) * hop - half
        right = left + (len(block) - 1) * hop + size
        if left >= 0 and right <= num_samples:
            signal = held[left - start : right - start]
        else:
            signal = held[reflect(np.arange(left, right), num_samples) - start]
        spectrum = scipy.fft.rfft(np.lib.stride_tricks.sliding_window_view(signal, size)[::hop] * window)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        for bins, mels, weights in _mel_bands(config):
            np.matmul(power[:, bins], weights, out=block[:, mels])
        np.log(np.maximum(block, clip, out=block), out=block)
        block *= _LOG10
        if level is not None:
            _scale(block, level)
