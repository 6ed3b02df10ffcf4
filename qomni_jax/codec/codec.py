"""`Codec`: speech to codes and back for lists of recordings, streams and files, from one config and its parameters."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
import dataclasses
import functools
import os
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from qomni_jax.audio.log_mel import as_waveform, log_mel
from qomni_jax.codec import storage
from qomni_jax.codec.model import CodecModel
from qomni_jax.codec.stream import DecoderStream
from qomni_jax.config.codec import CodecConfig

_ENCODE_ROWS = (64, 4096)
_DECODE_FRAMES = 1024
_DECODE_ITEMS = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Codec:
    """A codec ready to use.

    A recording of n samples is `S = ceil(n / samples_per_frame)` codec frames (1280 samples each at 16 kHz); its tail
    is padded with silence, so decoding gives `S * samples_per_frame` samples.

    Attributes:
      config: sizes of every part.
      params: parameters of `CodecModel`, `{"rvq": ..., "vocoder": ...}`; `params["rvq"]["codebooks"]` is
        `[num_codebooks, codebook_size, latent_dim]`.
    """

    config: CodecConfig
    params: Mapping[str, Any] = dataclasses.field(repr=False)

    @classmethod
    def initialise(cls, config: CodecConfig, seed: int = 0) -> "Codec":
        """A codec with random parameters."""
        model = CodecModel(config)
        mel = jnp.zeros((1, config.rvq.stack, config.log_mel.num_mels))
        return cls(config, nn.unbox(jax.jit(model.init)(jax.random.key(seed), mel))["params"])

    @classmethod
    def load(cls, directory: str | os.PathLike, expected: CodecConfig | None = None) -> "Codec":
        """Reads a codec written by `save`.

        Raises:
          FileNotFoundError: the directory holds no codec.
          ValueError: its config is damaged, or is not `expected` (the first differing field is named).
        """
        config = storage.read_config(directory, expected)
        template = jax.eval_shape(lambda: cls.initialise(config).params)
        return cls(config, storage.read_params(directory, template))

    def save(self, directory: str | os.PathLike) -> None:
        """Writes `config.json` and the parameters (orbax) into a directory, in place of a codec that is there.

        Raises:
          FileExistsError: the directory holds something other than a codec.
        """
        storage.write(directory, self.config, self.params)

    def num_frames(self, num_samples: int) -> int:
        """Codec frames of a recording of `num_samples` samples."""
        return -(-num_samples // self.config.samples_per_frame)

    def features(self, audio: np.ndarray) -> np.ndarray:
        """Stacked log-mel of one recording, int16 or float `[n]` -> float32 `[S, stack * num_mels]`."""
        waveform = as_waveform(audio)
        excess = -len(waveform) % self.config.samples_per_frame
        return log_mel(np.pad(waveform, (0, excess)), self.config.log_mel).reshape(-1, self.config.stacked_dim)

    def encode_audio(self, recordings: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes of recordings, int16 or float `[n]` at `config.sample_rate` -> uint16 `[S, Q]` each.

        Raises:
          ValueError: a recording is not one channel of int16 or floating samples.
        """
        codes, pending, pending_rows = [], [], 0
        for recording in recordings:
            pending.append(self.features(recording))
            pending_rows += len(pending[-1])
            if pending_rows >= _ENCODE_ROWS[-1]:
                codes += self.encode_features(pending)
                pending, pending_rows = [], 0
        return codes + self.encode_features(pending)

    def decode_codes(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Speech of code sequences, integers `[S, Q]` -> float32 `[S * samples_per_frame]` each.

        Raises:
          ValueError: a sequence has another shape or type, or a code outside `[0, codebook_size)`.
        """
        sequences = [self.check_codes(codes, 2) for codes in sequences]
        waveforms: list[np.ndarray] = [np.zeros(0, np.float32)] * len(sequences)
        groups = defaultdict(list)
        for index, codes in enumerate(sequences):
            if len(codes):
                groups[_bucket(len(codes))].append(index)
        for frames, members in sorted(groups.items()):
            rows = max(1, min(_DECODE_ITEMS, _DECODE_FRAMES // frames))
            for start in range(0, len(members), rows):
                chosen = members[start : start + rows]
                batch = np.zeros((1 if len(chosen) == 1 else rows, frames, sequences[chosen[0]].shape[1]), np.int32)
                lengths = np.zeros(len(batch), np.int32)
                for row, index in enumerate(chosen):
                    lengths[row] = len(sequences[index])
                    batch[row, : lengths[row]] = sequences[index]
                samples = np.asarray(_apply("decode", self.config)(self.params, batch, lengths))
                for row, index in enumerate(chosen):
                    waveforms[index] = samples[row, : lengths[row] * self.config.samples_per_frame].copy()
        return waveforms

    def decode_mel(self, codes: np.ndarray) -> np.ndarray:
        """Log-mel of one code sequence, integers `[S, Q]` -> float32 `[S * stack, num_mels]`.

        Raises:
          ValueError: as `decode_codes`.
        """
        codes = self.check_codes(codes, 2)
        padded = np.zeros((_bucket(len(codes)), codes.shape[1]), np.int32)
        padded[: len(codes)] = codes
        mel = _apply("decode_mel", self.config)(self.params, padded[None])
        return np.array(mel[0, : len(codes) * self.config.rvq.stack])

    def stream(self) -> DecoderStream:
        """A new stream that turns code frames into samples as they come."""
        return DecoderStream(self)

    def check_codes(self, codes: np.ndarray, ndim: int) -> np.ndarray:
        """Codes as int32 after checking `[..., Q]` of `ndim` axes, integer type and range.

        Raises:
          ValueError: naming the shape, type or code that is not accepted.
        """
        codes = np.asarray(codes)
        quantizer = self.config.rvq
        if codes.ndim != ndim or codes.shape[-1] != quantizer.num_codebooks:
            shape = f"[{', '.join(['frames'] * (ndim - 1) + [str(quantizer.num_codebooks)])}]"
            raise ValueError(f"codes of shape {codes.shape}: accepted is {shape}")
        if not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(f"codes of dtype {codes.dtype}: accepted is an integer type")
        if codes.size and (codes.min() < 0 or codes.max() >= quantizer.codebook_size):
            wrong = codes.min() if codes.min() < 0 else codes.max()
            raise ValueError(f"code {wrong}: accepted is 0 to {quantizer.codebook_size - 1}")
        return codes.astype(np.int32)

    def encode_features(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes of stacked log-mels of `features`, float32 `[S, stack * num_mels]` -> uint16 `[S, Q]` each."""
        if not features:
            return []
        joined = np.concatenate(features)
        quantized = np.empty((len(joined), self.config.rvq.num_codebooks), np.uint16)
        for start in range(0, len(joined), _ENCODE_ROWS[-1]):
            block = joined[start : start + _ENCODE_ROWS[-1]]
            rows = next(size for size in _ENCODE_ROWS if size >= len(block))
            padded = np.zeros((rows, joined.shape[1]), np.float32)
            padded[: len(block)] = block
            mel = padded.reshape(1, -1, self.config.log_mel.num_mels)
            codes = _apply("encode", self.config)(self.params, mel)
            quantized[start : start + len(block)] = np.asarray(codes)[0, : len(block)]
        return np.split(quantized, np.cumsum([len(item) for item in features])[:-1])


@functools.lru_cache(maxsize=64)
def _apply(method: str, config: CodecConfig):
    """Jitted method of the model, compiled once a config and shape."""
    model = CodecModel(config)
    return jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs, method=method))


def _bucket(frames: int) -> int:
    """Smallest of 8, 12, 16, 24, 32, 48, ... that holds `frames`."""
    size = 8
    while size < frames:
        if size * 3 // 2 >= frames:
            return size * 3 // 2
        size *= 2
    return size
