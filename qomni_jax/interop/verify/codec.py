"""Goldens of a codec.

Of a decoder:
  codes [B, Q, T], wav [B, 1, n]   codes and the samples they decode to
  quant, pre_conv [B, D, T]        features of the codes; what the convolution before the transformer makes of them
  pre_in, pre_out [B, T, D]        what the transformer sees and gives
  wav_chunked_<c>_<p>              chunks of c frames, decoded each on its own behind p frames before it, whose samples
                                   are cut off; `wav_chunked`, without numbers, is of 15 and 5
Of an encoder with its decoder:
  x [B, 1, n], codes, y            a recording, its codes, and what they decode to, as long as the recording
"""

from collections.abc import Iterator
import dataclasses
import re
from typing import Any

import jax
import numpy as np

from qomni_jax.codec.waveform_codec import WaveformCodec
from qomni_jax.codec.waveform_model import WaveformCodecModel, initial_state
from qomni_jax.config.waveform_codec import WaveformCodecConfig
from qomni_jax.interop.verify.golden import Golden

_CHUNK, _PAST = 15, 5  # of a name without numbers


def matches(names: set[str]) -> bool:
    """A file with codes and samples."""
    return {"codes", "wav"} <= names or {"x", "codes", "y"} <= names


def inputs(names: set[str]) -> set[str]:
    """The codes of a decoder, the recording of an encoder."""
    return {"x"} if "x" in names else {"codes"}


def compute(golden: Golden, config: WaveformCodecConfig, parameters: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor whose name is understood. `y` is of the golden's codes."""
    config = dataclasses.replace(config, dtype="float32")
    codec = WaveformCodec(config, parameters)
    codes = np.swapaxes(golden["codes"], 1, 2).astype(np.int32)
    if "x" in golden:
        recordings = golden["x"]
        yield "codes", np.stack(codec.encode_audio(list(recordings[:, 0]))).swapaxes(1, 2).astype(np.int64)
        yield "y", np.stack(codec.decode_codes(list(codes)))[:, None, : recordings.shape[2]]
        return
    yield "wav", _decoded(codec, codes)
    found = _features(config, parameters, codes)
    for name in golden:
        chunked = re.fullmatch(r"wav_chunked(?:_(\d+)_(\d+))?", name)
        if chunked:
            chunk, past = (int(chunked[1]), int(chunked[2])) if chunked[1] else (_CHUNK, _PAST)
            yield name, _chunked(codec, codes, chunk, past)
        elif name in found:
            yield name, found[name]


def _decoded(codec: WaveformCodec, codes: np.ndarray) -> np.ndarray:
    return np.stack(codec.decode_codes(list(codes)))[:, None]


def _chunked(codec: WaveformCodec, codes: np.ndarray, chunk: int, past: int) -> np.ndarray:
    pieces = []
    for start in range(0, codes.shape[1], chunk):
        first = max(0, start - past)
        samples = _decoded(codec, codes[:, first : start + chunk])
        pieces.append(samples[..., (start - first) * codec.config.samples_per_frame :])
    return np.concatenate(pieces, axis=-1)


def _features(config: WaveformCodecConfig, parameters: Any, codes: np.ndarray) -> dict[str, np.ndarray]:
    model = WaveformCodecModel(config)

    @jax.jit
    def run(parameters: Any, codes: Any, state: Any) -> Any:
        variables = {"params": parameters, "stream": state}
        return model.apply(variables, codes, method="decode", mutable=["stream", "intermediates"])[1]["intermediates"]

    sowed = run(parameters, codes, initial_state(config, "decode", len(codes)))
    embedded, transformed = (np.asarray(sowed["decoder"][name][0]) for name in ("embedded", "transformed"))
    return {
        "quant": np.swapaxes(sowed["quantized"][0], 1, 2),
        "pre_conv": np.swapaxes(embedded, 1, 2),
        "pre_in": embedded,
        "pre_out": transformed,
    }
