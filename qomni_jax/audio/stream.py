"""The audio encoder on a recording that is still growing: tokens as soon as their window is complete."""

from collections.abc import Callable, Iterable, Iterator
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qomni_jax.audio.aut import AudioEncoder
from qomni_jax.audio.features import FeatureStream
from qomni_jax.config.audio import AudioEncoderConfig, AudioFeatureConfig


@functools.lru_cache(maxsize=16)
def _encode_function(config: AudioEncoderConfig) -> Callable[..., Any]:
    return jax.jit(lambda params, *args: AudioEncoder(config).apply({"params": params}, *args))


def encode_blocks(
    blocks: Iterable[np.ndarray], features: AudioFeatureConfig, config: AudioEncoderConfig, params: Any
) -> Iterator[np.ndarray]:
    """Tokens `[n, D]` of a recording of any length that comes in blocks of samples, from samples to tokens in constant
    memory. Joined, they are those of the encoder on the features of the whole.

    Raises ValueError as `FeatureStream` and `AudioEncoderStream` do.
    """
    frames, tokens = FeatureStream(features), AudioEncoderStream(config, params)
    for block in blocks:
        yield tokens.push(frames.push(block))
    yield tokens.push(frames.finish())
    yield tokens.finish()


class AudioEncoderStream:
    """Tokens of one growing recording; together they are those of the encoder on the whole recording.

    What it carries is the frames of the window that is not complete yet. A smaller `config.window` gives final tokens
    earlier; `provisional` gives those of the incomplete window at any time.

    Raises ValueError for a config without a window: every token would wait for the end.
    """

    def __init__(self, config: AudioEncoderConfig, params: Any):
        if config.window_frames is None:
            raise ValueError("audio stream: AudioEncoderConfig.window = None: accepted is a number of tokens")
        self._config = config
        self._params = params
        self._encode = _encode_function(config)
        self._window_frames = config.window_frames
        self._pending = np.zeros((0, config.num_mels), np.float32)
        self._finished = False

    def push(self, features: np.ndarray) -> np.ndarray:
        """More frames `[n, mels]` -> the tokens `[windows * config.window, D]` of all windows now complete.

        Raises:
          ValueError: frames of another shape.
          RuntimeError: the stream is finished.
        """
        self._require_open("push")
        if features.ndim != 2 or features.shape[1] != self._config.num_mels:
            raise ValueError(f"audio stream: features {features.shape}: accepted is [n, {self._config.num_mels}]")
        self._pending = np.concatenate([self._pending, features.astype(np.float32)])
        tokens = [self._tokens(0)]
        while len(self._pending) >= self._window_frames:
            tokens.append(self._tokens(self._window_frames))
            self._pending = self._pending[self._window_frames :]
        return np.concatenate(tokens)

    def provisional(self) -> np.ndarray:
        """Tokens `[n, D]` of the incomplete window as if the recording ended here; later frames change them.

        Raises RuntimeError when the stream is finished.
        """
        self._require_open("provisional")
        return self._tokens(len(self._pending))

    def finish(self) -> np.ndarray:
        """Tokens `[n, D]` of the last window; the stream accepts no more frames.

        Raises RuntimeError when the stream is already finished.
        """
        tokens = self.provisional()
        self._finished = True
        return tokens

    def _tokens(self, frames: int) -> np.ndarray:
        """Of the first `frames` pending frames, at most a window; always one shape, so one compiled program."""
        if not frames:
            return np.zeros((0, self._config.output_dim), jnp.dtype(self._config.dtype))
        window = np.zeros((1, self._window_frames, self._config.num_mels), np.float32)
        window[0, :frames] = self._pending[:frames]
        tokens, lengths = self._encode(self._params, window, np.array([frames], np.int32))
        return np.asarray(tokens[0, : int(lengths[0])])

    def _require_open(self, action: str) -> None:
        if self._finished:
            raise RuntimeError(f"{action} on a finished audio stream: accepted is a new one")
