"""Our computation against golden tensors of a reference, tensor by tensor."""

from collections.abc import Iterator, Sequence
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qomni_jax.interop.encoder_model import open_audio_encoder, open_vision_encoder
from qomni_jax.interop.errors import CheckpointError
from qomni_jax.interop.model import open_language_model
from qomni_jax.interop.thinker_model import open_thinker
from qomni_jax.interop.verify import (
    audio_encoder,
    features,
    gated_delta_rule,
    language_model,
    mtp,
    thinker,
    vision_encoder,
)
from qomni_jax.interop.verify.golden import Golden, as_json, compare, read_golden

# What a golden may be of, and how its checkpoint is opened: (configuration or description, parameters).
_WITH_MODEL: tuple[tuple[Any, Any], ...] = (
    (thinker, open_thinker),
    (language_model, open_language_model),
    (mtp, open_language_model),
    (audio_encoder, open_audio_encoder),
    (vision_encoder, open_vision_encoder),
)


def verify(checkpoint: Sequence[str | os.PathLike[str]], golden_path: str | os.PathLike[str]) -> dict[str, Any]:
    """`{"ok", "tensors": {name: {"max_abs_err", "rms", "ok"}}, "skipped"}` for every tensor of a golden file.

    Where the golden's own error is known (features), it stands there as `golden_err` and is added to the tolerance.

    Inputs are rows with `"input": true`. `skipped` holds tensors that nothing here computes. Parameters and activations
    are float32, products too. `checkpoint` may be empty for goldens of an operator.

    Raises CheckpointError with one line: a file that is not whole, a golden of an unknown kind, an absent checkpoint.
    """
    golden = read_golden(golden_path)
    names = set(golden)
    with jax.default_matmul_precision("highest"):
        given, computed = _compute(golden, names, checkpoint, str(golden_path))
        rows = {name: as_json(name, compare(golden[name], golden[name]), True) for name in sorted(given)}
        exact = features.exact(golden) if features.matches(names) else {}
        rows |= {name: as_json(name, compare(value, golden[name], exact.get(name)), False) for name, value in computed}
    return {
        "ok": all(row["ok"] for row in rows.values()) and len(rows) > len(given),
        "tensors": rows,
        "skipped": sorted(names - rows.keys()),
    }


def _compute(
    golden: Golden, names: set[str], checkpoint: Sequence[str | os.PathLike[str]], source: str
) -> tuple[set[str], Iterator[tuple[str, np.ndarray]]]:
    """Names of the inputs, and the values that we compute."""
    without_model = next((family for family in (gated_delta_rule, features) if family.matches(names)), None)
    if without_model is not None:
        return without_model.inputs(names), without_model.compute(golden)
    family, open_model = next((pair for pair in _WITH_MODEL if pair[0].matches(names)), (None, None))
    if family is None or open_model is None:
        raise CheckpointError(f"{source}: tensors {', '.join(sorted(names)[:4])}, ...: not a golden of a known kind")
    if not checkpoint:
        raise CheckpointError(f"{source}: --checkpoint is missing: accepted is the checkpoint that the golden is of")
    of_what, parameters = open_model(checkpoint, dtype=jnp.float32)
    return family.inputs(names), family.compute(golden, of_what, parameters)
