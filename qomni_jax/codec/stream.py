"""One live decoding stream: code frames in, samples out as soon as they are final."""

import functools
from typing import TYPE_CHECKING

import jax
import numpy as np

from qomni_jax.codec.model import CodecModel
from qomni_jax.config.codec import CodecConfig

if TYPE_CHECKING:
    from qomni_jax.codec.codec import Codec


@functools.lru_cache(maxsize=16)
def stream_functions(config: CodecConfig):
    """Jitted `init_state(batch)`, `step(params, codes [B, Q], state)` and `flush(params, state)` of the codec model."""
    model = CodecModel(config)

    def step(params, codes, state):
        return model.apply({"params": params}, codes, state, method="step")

    def flush(params, state):
        return model.apply({"params": params}, state, method="flush")

    return functools.partial(model.apply, {}, method="init_state"), jax.jit(step), jax.jit(flush)


class DecoderStream:
    """Samples of a growing code sequence; together they are those of `Codec.decode_codes` on the whole sequence."""

    def __init__(self, codec: "Codec"):
        self._codec = codec
        init_state, self._step, self._flush = stream_functions(codec.config)
        self._state = init_state(1)
        self._to_drop = codec.config.vocoder.delay
        self._finished = False

    def push(self, codes: np.ndarray) -> np.ndarray:
        """Samples that one more frame makes final, integers `[Q]` -> float32 `[<= samples_per_frame]`.

        The first frames give fewer: the codec's algorithmic delay is held back until `finish`.

        Raises:
          ValueError: codes of another shape, type or range.
          RuntimeError: the stream is finished.
        """
        self._require_open("push")
        codes = self._codec.check_codes(codes, 1)
        samples, self._state = self._step(self._codec.params, codes[None], self._state)
        return self._trim(np.asarray(samples)[0])

    def finish(self) -> np.ndarray:
        """The samples held back, float32 `[<= delay]`; the stream accepts no more frames.

        Raises:
          RuntimeError: the stream is already finished.
        """
        self._require_open("finish")
        self._finished = True
        if not int(self._state["time"][0]):
            return np.zeros(0, np.float32)
        return self._trim(np.asarray(self._flush(self._codec.params, self._state))[0])

    def _trim(self, samples: np.ndarray) -> np.ndarray:
        dropped = min(self._to_drop, len(samples))
        self._to_drop -= dropped
        return samples[dropped:].copy()

    def _require_open(self, action: str) -> None:
        if self._finished:
            raise RuntimeError(f"{action} on a finished stream: accepted is a new one from Codec.stream()")
