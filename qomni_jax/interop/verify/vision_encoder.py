"""Goldens of a vision encoder.

`pixel_values [patches, patch]` of all frames one after another, `grid_thw` of images and videos; `pooler_output` their
tokens, `last_hidden_state` the last block's output, `hidden_<n>`: what the first block sees (0), the output of block
n - 1; `deepstack_<n>` the DeepStack features.
"""

from collections.abc import Iterator
import dataclasses
import re
from typing import Any

import jax
import numpy as np

from qomni_jax.config.vision import VisionEncoderConfig
from qomni_jax.interop.verify.golden import Golden
from qomni_jax.vision.patches import frame_rows
from qomni_jax.vision.tower import VisionEncoder

_INPUTS = {"pixel_values", "grid_thw"}


def matches(names: set[str]) -> bool:
    """A file with patches and nothing of a language model."""
    return names >= _INPUTS and "input_ids" not in names


def inputs(names: set[str]) -> set[str]:
    """Patches and their grids."""
    return names & _INPUTS


def compute(golden: Golden, config: VisionEncoderConfig, parameters: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor whose name is understood."""
    config = dataclasses.replace(config, dtype="float32")
    grids = [(int(t), int(h), int(w)) for t, h, w in golden["grid_thw"]]
    items = np.split(golden["pixel_values"], np.cumsum([np.prod(grid) for grid in grids])[:-1])
    patches, sizes = frame_rows(list(zip(items, grids, strict=True)))
    run = jax.jit(
        lambda parameters, *args: VisionEncoder(config).apply({"params": parameters}, *args, mutable=["intermediates"])
    )
    output, sowed = run(parameters, patches, sizes)
    hidden = [sowed["intermediates"]["embedded"][0], *sowed["intermediates"]["encoder"]["blocks"]["hidden"][0]]
    found = {"pooler_output": output.tokens, "last_hidden_state": hidden[-1]}
    found |= {f"hidden_{number}": value for number, value in enumerate(hidden)}
    found |= {f"deepstack_{number}": value for number, value in enumerate(output.deepstack)}
    for name in golden:
        if name in found:
            own = np.prod(sizes, axis=1)
            if re.fullmatch(r"pooler_output|deepstack_\d+", name):
                own = own // config.merged_patches
            yield name, np.asarray(found[name])[np.arange(found[name].shape[1]) < own[:, None]]
