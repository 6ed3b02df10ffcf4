"""Goldens of an audio encoder.

`input_features [mels, frames]` of all clips one after another, `feature_lens` frames each; `out [tokens, D]` of all
clips one after another, `out_lens`; `hidden_<n>`: what the first block sees (0), the output of block n - 1.
"""

from collections.abc import Iterator
import dataclasses
import re
from typing import Any

import jax
import numpy as np

from qomni_jax.audio.aut import AudioEncoder
from qomni_jax.config.audio import AudioEncoderConfig
from qomni_jax.interop.verify.golden import Golden

_INPUTS = {"input_features", "feature_lens"}


def matches(names: set[str]) -> bool:
    """A file with features and nothing of a language model."""
    return names >= _INPUTS and "input_ids" not in names


def inputs(names: set[str]) -> set[str]:
    """Features and their lengths."""
    return names & _INPUTS


def compute(golden: Golden, config: AudioEncoderConfig, parameters: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor whose name is understood."""
    config = dataclasses.replace(config, dtype="float32")
    frames = golden["feature_lens"].astype(np.int32)
    clips = np.split(golden["input_features"].T, np.cumsum(frames)[:-1])
    features = np.stack([np.pad(clip, ((0, max(frames) - len(clip)), (0, 0))) for clip in clips])
    run = jax.jit(
        lambda parameters, *args: AudioEncoder(config).apply({"params": parameters}, *args, mutable=["intermediates"])
    )
    (tokens, lengths), sowed = run(parameters, features, frames)
    hidden = [sowed["intermediates"]["embedded"][0], *sowed["intermediates"]["encoder"]["blocks"]["hidden"][0]]
    real = np.arange(tokens.shape[1]) < np.asarray(lengths)[:, None]
    for name in golden:
        number = re.fullmatch(r"hidden_(\d+)", name)
        if name == "out_lens":
            yield name, np.asarray(lengths)
        elif name == "out":
            yield name, np.asarray(tokens)[real]
        elif number and int(number[1]) < len(hidden):
            yield name, np.asarray(hidden[int(number[1])])[real]
