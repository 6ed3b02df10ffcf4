"""Live streams of a `WaveformCodec`: what comes out is, piece by piece, what the whole recording gives.

A call of the model takes any number of frames. Here it takes powers of two, so that few programs are compiled whatever
the chunks are.
"""

from collections.abc import Iterator
import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from qomni_jax.audio.log_mel import as_waveform
from qomni_jax.codec.waveform_model import WaveformCodecModel, initial_state
from qomni_jax.config.waveform_codec import WaveformCodecConfig

if TYPE_CHECKING:
    from qomni_jax.codec.waveform_codec import WaveformCodec

# Frames of all rows that one call takes at most: the features of so many at the sample rate have to be held.
_CALL_FRAMES = 64


@functools.lru_cache(maxsize=32)
def stream_function(config: WaveformCodecConfig, method: str) -> Any:
    """Jitted `(params, state, *inputs) -> outputs, state` of `WaveformCodecModel.decode` or `encode`."""
    model = WaveformCodecModel(config)

    @jax.jit
    def step(params: Any, state: Any, *inputs: Any) -> tuple[jax.Array, Any]:
        outputs, kept = model.apply({"params": params, "stream": state}, *inputs, method=method, mutable=["stream"])
        return outputs, kept["stream"]

    return step


def decode_pieces(config: WaveformCodecConfig, params: Any, codes: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    """Goes on with streams, codes int32 `[B, T, Q]` -> float32 `[B, T * samples_per_frame]`, state."""
    step = stream_function(config, "decode")
    pieces = [np.zeros((len(codes), 0), np.float32)]
    for start, end in _pieces(codes.shape[1], len(codes)):
        samples, state = step(params, state, codes[:, start:end])
        pieces.append(np.asarray(samples, np.float32))
    return np.concatenate(pieces, axis=1), state


def encode_pieces(
    config: WaveformCodecConfig, params: Any, samples: np.ndarray, lengths: np.ndarray, state: Any
) -> tuple[np.ndarray, Any]:
    """Goes on with streams, float32 `[B, T * samples_per_frame]` -> int32 `[B, T, Q]`, state.

    `lengths [B]` of the samples are a row's. A row with fewer than all is over.
    """
    step, frame = stream_function(config, "encode"), config.samples_per_frame
    pieces = [np.zeros((len(samples), 0, config.quantizer.num_codebooks), np.int32)]
    for start, end in _pieces(samples.shape[1] // frame, len(samples)):
        inside = np.clip(lengths - start * frame, 0, (end - start) * frame)
        codes, state = step(params, state, samples[:, start * frame : end * frame], inside)
        pieces.append(np.asarray(codes))
    return np.concatenate(pieces, axis=1), state


class WaveformDecoderStream:
    """Samples of a growing code sequence; together they are those of `WaveformCodec.decode_codes` on all of it."""

    def __init__(self, codec: "WaveformCodec"):
        self._codec = codec
        self._state = initial_state(codec.config, "decode", 1)
        self._to_drop = codec.config.decoder.delay

    def push(self, codes: np.ndarray) -> np.ndarray:
        """Samples that T more frames add, integers `[T, Q]` -> float32 `[T * samples_per_frame]`, at a start fewer.

        Raises:
          ValueError: codes of another shape, type or range.
        """
        codes = self._codec.check_codes(codes)
        samples, self._state = decode_pieces(self._codec.config, self._codec.params, codes[None], self._state)
        dropped = min(self._to_drop, samples.shape[1])
        self._to_drop -= dropped
        return samples[0, dropped:].copy()


class WaveformEncoderStream:
    """Codes of a growing recording; together they are those of `WaveformCodec.encode_audio` on all of it."""

    def __init__(self, codec: "WaveformCodec"):
        self._codec = codec
        self._state = initial_state(codec.config, "encode", 1)
        self._rest = np.zeros(0, np.float32)
        self._finished = False

    def push(self, audio: np.ndarray) -> np.ndarray:
        """Codes of the frames that more samples complete, int16 or float `[n]` -> int32 `[T, Q]`.

        Raises:
          ValueError: the audio is not one channel of int16 or floating samples.
          RuntimeError: the stream is finished.
        """
        self._require_open("push")
        samples = np.concatenate([self._rest, as_waveform(audio)])
        whole = len(samples) - len(samples) % self._codec.config.samples_per_frame
        self._rest = samples[whole:]
        return self._encode(samples[:whole], whole)

    def finish(self) -> np.ndarray:
        """Codes of the frame that the recording ends in, int32 `[T, Q]` with T 0 or 1.

        Raises:
          RuntimeError: the stream is already finished.
        """
        self._require_open("finish")
        self._finished = True
        missing = -len(self._rest) % self._codec.config.samples_per_frame
        return self._encode(np.pad(self._rest, (0, missing)), len(self._rest))

    def _encode(self, samples: np.ndarray, length: int) -> np.ndarray:
        codec = self._codec
        lengths = np.array([length], np.int32)
        codes, self._state = encode_pieces(codec.config, codec.params, samples[None], lengths, self._state)
        return codes[0]

    def _require_open(self, action: str) -> None:
        if self._finished:
            raise RuntimeError(f"{action} on a finished stream: accepted is a new one from encoder_stream()")


def _pieces(frames: int, rows: int) -> Iterator[tuple[int, int]]:
    """Start and end of runs of frames: powers of two, as long as memory allows."""
    largest, start = max(1, _CALL_FRAMES // rows), 0
    while start < frames:
        size = min(largest, 1 << (frames - start).bit_length() - 1)
        yield start, start + size
        start += size
