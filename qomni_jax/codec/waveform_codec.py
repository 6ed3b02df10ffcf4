"""`WaveformCodec`: a released ancestor's codec for lists of recordings and for live streams."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from qomni_jax.audio.log_mel import as_waveform
from qomni_jax.codec.waveform_model import init_parameters, initial_state
from qomni_jax.codec.waveform_stream import (
    WaveformDecoderStream,
    WaveformEncoderStream,
    decode_pieces,
    encode_pieces,
)
from qomni_jax.config.waveform_codec import WaveformCodecConfig

_ROWS = 16


@dataclasses.dataclass(frozen=True, eq=False)
class WaveformCodec:
    """A codec ready to use.

    T frames of codes are `T * samples_per_frame - delay` samples; n samples are `ceil(n / samples_per_frame)` frames.
    Recordings of any length are worked through in pieces with carried state, in constant memory on the device.

    Attributes:
      config: sizes of every part.
      params: parameters of `WaveformCodecModel`.
    """

    config: WaveformCodecConfig
    params: Mapping[str, Any] = dataclasses.field(repr=False)

    @classmethod
    def initialise(cls, config: WaveformCodecConfig, seed: int = 0) -> "WaveformCodec":
        """A codec with random parameters."""
        return cls(config, jax.jit(functools.partial(init_parameters, config))(jax.random.key(seed)))

    def decode_codes(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Samples of code sequences, integers `[T, Q]` -> float32 `[T * samples_per_frame - delay]` each, or none.

        Raises:
          ValueError: a sequence has another shape or type, or a code outside `[0, codebook_size)`.
        """
        frame, delay = self.config.samples_per_frame, self.config.decoder.delay
        sequences = [self.check_codes(codes) for codes in sequences]
        waveforms = [np.zeros(0, np.float32)] * len(sequences)
        for members in _groups([len(codes) for codes in sequences]):
            codes = _stacked([sequences[index] for index in members])
            state = initial_state(self.config, "decode", len(codes))
            samples, _ = decode_pieces(self.config, self.params, codes, state)
            for row, index in enumerate(members):
                waveforms[index] = samples[row, delay : len(sequences[index]) * frame].copy()
        return waveforms

    def encode_audio(self, recordings: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes of recordings, int16 or float `[n]` at `config.sample_rate` -> int32 `[T, Q]` each.

        Raises:
          ValueError: a recording is not one channel of int16 or floating samples, or the codec has no encoder.
        """
        self._require_encoder()
        frame = self.config.samples_per_frame
        waves = [as_waveform(recording) for recording in recordings]
        found = [np.zeros((0, self.config.quantizer.num_codebooks), np.int32)] * len(waves)
        for members in _groups([len(wave) for wave in waves]):
            samples = _stacked([waves[index] for index in members], frame)
            lengths = np.zeros(len(samples), np.int32)
            lengths[: len(members)] = [len(waves[index]) for index in members]
            state = initial_state(self.config, "encode", len(samples))
            codes, _ = encode_pieces(self.config, self.params, samples, lengths, state)
            for row, index in enumerate(members):
                found[index] = codes[row, : -(-len(waves[index]) // frame)].copy()
        return found

    def decoder_stream(self) -> WaveformDecoderStream:
        """A new stream that turns frames of codes into samples as they come."""
        return WaveformDecoderStream(self)

    def encoder_stream(self) -> WaveformEncoderStream:
        """A new stream that turns samples into codes as they come. Raises ValueError where there is no encoder."""
        self._require_encoder()
        return WaveformEncoderStream(self)

    def _require_encoder(self) -> None:
        """Raises ValueError where there is no encoder."""
        if self.config.encoder is None:
            raise ValueError("WaveformCodec.config.encoder = None: accepted is a codec with an encoder, such as Mimi")

    def check_codes(self, codes: np.ndarray) -> np.ndarray:
        """Codes as int32 after checking shape `[T, Q]`, integer type and range.

        Raises:
          ValueError: naming the shape, type or code that is not accepted.
        """
        codes, quantizer = np.asarray(codes), self.config.quantizer
        if codes.ndim != 2 or codes.shape[1] != quantizer.num_codebooks:
            raise ValueError(f"codes of shape {codes.shape}: accepted is [frames, {quantizer.num_codebooks}]")
        if not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(f"codes of dtype {codes.dtype}: accepted is an integer type")
        wrong = codes[(codes < 0) | (codes >= quantizer.codebook_size)]
        if wrong.size:
            raise ValueError(f"code {wrong[0]}: accepted is 0 to {quantizer.codebook_size - 1}")
        return codes.astype(np.int32)


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of items that are not empty, up to `_ROWS` of about the same length at a time."""
    order = sorted((index for index, length in enumerate(lengths) if length), key=lengths.__getitem__)
    for start in range(0, len(order), _ROWS):
        yield order[start : start + _ROWS]


def _stacked(items: Sequence[np.ndarray], unit: int = 1) -> np.ndarray:
    """Items `[n, ...]` in one array `[rows, n, ...]` with zeros behind them; rows are a power of two.

    n is a multiple of 8 units of the longest item, or a power of two below, so that few calls take them all.
    """
    rows = 1 << (len(items) - 1).bit_length()
    units = -(-max(map(len, items)) // unit)
    step = min(8, 1 << (units - 1).bit_length())
    stacked = np.zeros((rows, -(-units // step) * step * unit, *items[0].shape[1:]), items[0].dtype)
    for row, item in zip(stacked, items, strict=False):
        row[: len(item)] = item
    return stacked
