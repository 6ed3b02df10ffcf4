"""Goldens of the multi-token-prediction head.

`main_hidden [B, T, D]` is the decoder's output on `input_ids`; the head takes it as the file has it, with `next_ids`
and their `position_ids`, and gives `hidden` (after its norm) and `logits`.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from qomni_jax.interop.storage import Description
from qomni_jax.interop.verify.golden import Golden
from qomni_jax.interop.verify.language_model import with_stacked_layers
from qomni_jax.layers.language_model import LanguageModel
from qomni_jax.storage.errors import CheckpointError

_ARGUMENTS = ("next_ids", "main_hidden", "position_ids")


def matches(names: set[str]) -> bool:
    """A file with what the head takes."""
    return names >= set(_ARGUMENTS)


def inputs(names: set[str]) -> set[str]:
    """What is given and not computed."""
    return names & {"input_ids", "next_ids", "position_ids"}


def compute(golden: Golden, description: Description, parameters: Any) -> Iterator[tuple[str, np.ndarray]]:
    """`main_hidden` by the decoder, `hidden` and `logits` by the head."""
    config = with_stacked_layers(description).config
    if not config.num_mtp_layers:
        raise CheckpointError("the checkpoint has no mtp.* tensors: accepted is one with a multi-token-prediction head")
    model = LanguageModel(config)

    @jax.jit
    def run(parameters: Any, arguments: dict[str, Any]) -> dict[str, jax.Array]:
        variables = {"params": parameters}
        found = {}
        if "input_ids" in arguments:
            found["main_hidden"] = model.apply(variables, arguments["input_ids"]).hidden
        hidden, _, _ = model.apply(variables, *(arguments[n] for n in _ARGUMENTS), method=model.mtp_hidden)
        return found | {"hidden": hidden, "logits": model.apply(variables, hidden, method=model.logits)}

    for name, value in run(parameters, dict(golden)).items():
        if name in golden:
            yield name, np.asarray(value)
