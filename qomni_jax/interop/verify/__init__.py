"""Our computation against golden tensors of a reference, tensor by tensor."""

from collections.abc import Sequence
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qomni_jax.interop.codec_model import open_codec
from qomni_jax.interop.encoder_model import open_audio_encoder, open_vision_encoder
from qomni_jax.interop.model import open_language_model
from qomni_jax.interop.talker_model import open_qwen3_omni, open_talker
from qomni_jax.interop.thinker_model import open_thinker
from qomni_jax.interop.verify import (
    audio_encoder,
    codec,
    features,
    gated_delta_rule,
    language_model,
    mtp,
    speech,
    talker,
    thinker,
    vision_encoder,
)
from qomni_jax.interop.verify.golden import Golden, as_json, compare, read_golden
from qomni_jax.storage.errors import CheckpointError

# What a golden may be of, and how its checkpoint is opened: (configuration or description, parameters). The first that
# knows its names has it.
_WITH_MODEL: tuple[tuple[Any, Any], ...] = (
    (speech, open_qwen3_omni),
    (talker, open_talker),
    (thinker, open_thinker),
    (language_model, open_language_model),
    (mtp, open_language_model),
    (audio_encoder, open_audio_encoder),
    (vision_encoder, open_vision_encoder),
    (codec, open_codec),
)
# Those that can also be computed in float64.
_WITH_EXACT = (thinker, language_model, features)


def verify(checkpoint: Sequence[str | os.PathLike[str]], golden_path: str | os.PathLike[str]) -> dict[str, Any]:
    """`{"ok", "tensors": {name: {"max_abs_err", "rms", "ok"}}, "skipped"}` for every tensor of a golden file.

    Inputs are rows with `"input": true`. `skipped` holds tensors that nothing here computes. Parameters and activations
    are float32, products too. `checkpoint` may be empty for goldens of an operator.

    Goldens are float32, and where a whole model magnifies rounding they are further from the exact values than the
    tolerance is wide. So where a tensor of a whole model or of features is out of tolerance, it is computed in float64
    as well, each part in the form that is its contract; how far the golden is from that stands in the row as
    `golden_err`, and is added to the tolerance, up to three times its width.

    Raises CheckpointError with one line: a file that is not whole, a golden of an unknown kind, an absent checkpoint.
    """
    golden = read_golden(golden_path)
    family, *model = _open(golden, checkpoint, str(golden_path))
    given = family.inputs(set(golden))
    with jax.default_matmul_precision("highest"):
        computed = dict(family.compute(golden, *model))
        found = {name: compare(value, golden[name]) for name, value in computed.items()}
        if family in _WITH_EXACT and not all(comparison.ok for comparison in found.values()):
            exact = _exact(family, golden, model)
            found |= {name: compare(computed[name], golden[name], value) for name, value in exact.items()}
    rows = {name: as_json(name, compare(golden[name], golden[name]), True) for name in sorted(given)}
    rows |= {name: as_json(name, comparison, False) for name, comparison in found.items()}
    return {
        "ok": all(row["ok"] for row in rows.values()) and len(rows) > len(given),
        "tensors": rows,
        "skipped": sorted(set(golden) - rows.keys()),
    }


def _exact(family: Any, golden: Golden, model: list[Any]) -> dict[str, np.ndarray]:
    """Values in float64 of the tensors of floats."""
    with jax.enable_x64(True):

        def double(x: Any) -> np.ndarray:
            x = np.asarray(x)
            return x.astype(np.float64) if x.dtype.kind == "f" else x

        wide = {name: double(value) for name, value in golden.items()}
        if model:
            model = [model[0], jax.tree.map(double, model[1])]
        return {
            name: np.asarray(value)
            for name, value in family.compute(wide, *model, exact=True)
            if golden[name].dtype.kind == "f"
        }


def _open(golden: Golden, checkpoint: Sequence[str | os.PathLike[str]], source: str) -> list[Any]:
    """The kind of a golden, and, for one of a model, what it is of and its parameters."""
    names = set(golden)
    if gated_delta_rule.matches(names):
        return [gated_delta_rule]
    if features.matches(names):
        return [features]
    family, open_model = next((pair for pair in _WITH_MODEL if pair[0].matches(names)), (None, None))
    if family is None or open_model is None:
        raise CheckpointError(f"{source}: tensors {', '.join(sorted(names)[:4])}, ...: not a golden of a known kind")
    if not checkpoint:
        raise CheckpointError(f"{source}: --checkpoint is missing: accepted is the checkpoint that the golden is of")
    return [family, *open_model(checkpoint, dtype=jnp.float32)]
