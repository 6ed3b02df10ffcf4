"""What is in a checkpoint: family, sizes, parameter totals; from config.json and headers or a list of keys alone."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
import re
from typing import Any, NamedTuple

import numpy as np

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig
from qomni_jax.interop.codec_families import is_codec
from qomni_jax.interop.codec_keys import FLAGS
from qomni_jax.interop.codec_model import plan_codec
from qomni_jax.interop.key_map import key_map, leaf_shapes
from qomni_jax.interop.model_sizes import language_model_sizes, speech_sizes
from qomni_jax.interop.plan import Plan, make_plan, part_of
from qomni_jax.interop.released import Released
from qomni_jax.interop.safetensors_file import DTYPES, NAMES, TensorInfo
from qomni_jax.interop.speech_form import SpeechForm
from qomni_jax.interop.speech_storage import (
    CODEC,
    TALKER,
    describe_speech_part,
    describe_whole,
    held_speech_part,
    is_whole,
)
from qomni_jax.interop.storage import describe as describe_language_model
from qomni_jax.interop.talker_families import is_talker, speaks
from qomni_jax.interop.talker_model import plan_talker, released_forms
from qomni_jax.interop.thinker_form import has_encoders
from qomni_jax.interop.thinker_model import describe_ours, make_thinker_plan
from qomni_jax.storage.parameters import require_shapes, saved_arrays
from qomni_jax.thinker.storage import is_thinker, parameter_shapes

# Parts that are counted apart; what is in none of them is the language model.
_REST = "language_model"
_PARTS = (_REST, "visual", "audio", "talker", "code_predictor", "code2wav", "mtp", "lm_head")
_CODEC = ("quantizer", "encoder", "decoder")
# The same by the beginnings of our arrays' names.
_OURS = {"vision_encoder/": "visual", "audio_encoder/": "audio", "mtp/": "mtp", "lm_head/": "lm_head"}
_EXPERT = re.compile(r"\.mlp\.experts\.|/experts_")

Leaves = Iterable[tuple[str, TensorInfo]]


class _Array(NamedTuple):
    """A tensor to count: the part that it belongs to, and whether experts share it out among tokens."""

    part: str
    is_expert: bool
    info: TensorInfo


def inventory(released: Released) -> dict[str, Any]:
    """Family, sizes, totals and types as JSON values. Raises CheckpointError as `make_plan` or `plan_codec` does."""
    config = released.config or {}
    if is_codec(config) or is_talker(config):
        form = plan_codec(released) if is_codec(config) else plan_talker(released)
        not_loaded = sorted(released.tensors.keys() - form.rules().keys())
        return _speech_inventory(released.source, form, _released_leaves(form, released), not_loaded)
    plan = make_plan(released)
    left = make_thinker_plan(released).not_loaded if has_encoders(config) else plan.not_loaded
    beside = released_forms(released)[:2] if speaks(config) else ()
    spoken = {name for form in beside for name in form.rules()}
    arrays = [
        _Array(_part(plan, name), bool(_EXPERT.search(name)), info)
        for name, info in released.tensors.items()
        if name not in spoken
    ]
    return {
        "source": released.source,
        "family": plan.family.name,
        **_figures(plan.config, arrays, [(form, _released_leaves(form, released)) for form in beside]),
        "layout": plan.layout._asdict() | _talker_layout(beside),
        "not_loaded": [name for name in left if name not in spoken],
    }


def inventory_of_ours(path: Path) -> dict[str, Any]:
    """The same of a directory of ours, whose arrays are counted in the place of released tensors.

    Raises CheckpointError where it is not whole.
    """
    if held_speech_part(path):
        held = describe_speech_part(path)
        return _speech_inventory(str(path), held, _our_leaves(path, leaf_shapes(held.rules())), [])
    beside: Sequence[SpeechForm] = ()
    if is_thinker(path):
        opened = describe_ours([path])
        config, form = opened.stored.config.language_model, opened.form
        family, layout = ("qomni", None) if form is None else (form.family.name, form.layout._asdict())
        shapes = parameter_shapes(opened.stored.config)
        beside = describe_whole(path)[:2] if is_whole(path) else ()
    else:
        description = describe_language_model(path)
        config, family, layout = description.config, description.family.name, description.layout._asdict()
        shapes = leaf_shapes(key_map(description.config, description.family, description.layout))
    arrays = [_Array(_our_part(name), bool(_EXPERT.search(name)), info) for name, info in _our_leaves(path, shapes)]
    speech = [
        (other, _our_leaves(path / part, leaf_shapes(other.rules())))
        for part, other in zip((TALKER, CODEC), beside, strict=False)
    ]
    return {
        "source": str(path),
        "family": family,
        **_figures(config, arrays, speech),
        "layout": None if layout is None else layout | _talker_layout(beside),
        "not_loaded": [],
    }


def describe(found: Mapping[str, Any]) -> str:
    """The inventory for people to read."""
    lines = [f"{found['source']}: {found['family']}"]
    width = 2 + max(30, *map(len, found["sizes"]))
    lines += [f"  {name:{width}}{value}" for name, value in found["sizes"].items()]
    lines.append("parameters (billions)")
    lines += [
        f"  {name:{width}}{found['billions'][name]:8.3f}{count:20,}"
        for name, count in found["parameters"].items()
        if count
    ]
    if found["dtypes"]:
        lines.append(f"types: {', '.join(f'{name} ({count})' for name, count in found['dtypes'].items())}")
    if found["not_loaded"]:
        lines.append(not_loaded_note(found["not_loaded"]))
    return "\n".join(lines)


def not_loaded_note(names: Iterable[str], read: str = "Thinker") -> str:
    """One line for tensors that are in the checkpoint and that we leave there; `read` is what we take."""
    found = list(names)
    parts = dict.fromkeys(part_of(name) or name.split(".")[0] for name in found)
    return f"not loaded: {len(found)} tensors of {', '.join(parts)}: the {read} alone is read"


def _speech_inventory(source: str, form: SpeechForm, leaves: Leaves, not_loaded: Sequence[str]) -> dict[str, Any]:
    arrays = _speech_arrays(form, leaves)
    is_talker = isinstance(form.config, Qwen3OmniTalkerConfig)
    return {
        "source": source,
        "family": form.family,
        "sizes": speech_sizes(form.config),
        **_totals(("talker", "code_predictor", "experts") if is_talker else _CODEC, arrays),
        "layout": {"prefix": form.prefix, **({"experts": form.experts} if is_talker else {})},
        "not_loaded": list(not_loaded),
    }


def _figures(
    config: LanguageModelConfig, arrays: Sequence[_Array], speech: Sequence[tuple[SpeechForm, Leaves]]
) -> dict[str, Any]:
    """Sizes and totals of a language model with its encoders, and of the Talker and the codec beside it."""
    sizes, beside = language_model_sizes(config), []
    for form, leaves in speech:
        found = _speech_arrays(form, leaves)
        name = "talker" if isinstance(form.config, Qwen3OmniTalkerConfig) else "code2wav"
        beside += found if name == "talker" else [array._replace(part=name) for array in found]
        sizes |= {f"{name}.{size}": value for size, value in speech_sizes(form.config).items()}
    figures = _totals((*_PARTS, "experts"), [*arrays, *beside])
    counts = figures["parameters"]
    experts = sum(array.info.size for array in arrays if array.part == _REST and array.is_expert)
    feed_forward = config.decoder.feed_forward
    idle = experts - experts * feed_forward.top_k // feed_forward.num_experts if feed_forward.num_experts else 0
    counts["active_text"] = counts[_REST] + counts["lm_head"] - idle
    if beside:
        counts["thinker"] = sum(array.info.size for array in arrays)
    return {"sizes": sizes, **figures, "billions": _billions(counts)}


def _released_leaves(form: SpeechForm, released: Released) -> Leaves:
    """Our array -> what the header says of the tensor that fills it, for every tensor of a Talker or a codec."""
    return [(rule.parts[0].leaf, released.tensors[name]) for name, rule in form.rules().items()]


def _our_leaves(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Leaves:
    """The same of the arrays of a directory of ours. Raises CheckpointError unless they are those of `shapes`."""
    saved = saved_arrays(path)
    require_shapes(str(path), saved, shapes)
    return [(name, TensorInfo(NAMES[np.dtype(a.dtype)], tuple(a.shape))) for name, a in saved.items()]


def _speech_arrays(form: SpeechForm, leaves: Leaves) -> list[_Array]:
    found = []
    for leaf, info in leaves:
        part = leaf.split("/")[0]
        if isinstance(form.config, Qwen3OmniTalkerConfig) and part != "code_predictor":
            part = "talker"
        if part != FLAGS:
            found.append(_Array(part, bool(_EXPERT.search(leaf)), info))
    return found


def _talker_layout(forms: Sequence[SpeechForm]) -> dict[str, str]:
    return {"talker_experts": forms[0].experts} if forms else {}


def _part(plan: Plan, name: str) -> str:
    return "lm_head" if name == plan.layout.head else "mtp" if name.startswith("mtp.") else part_of(name) or _REST


def _our_part(name: str) -> str:
    name = name.removeprefix("language_model/")
    return next((part for start, part in _OURS.items() if name.startswith(start)), _REST)


def _totals(names: Sequence[str], arrays: Sequence[_Array]) -> dict[str, Any]:
    """Parameters by part, the experts' among them, their bytes and types."""
    counts = {"total": sum(array.info.size for array in arrays), **dict.fromkeys(names, 0)}
    for array in arrays:
        counts[array.part] += array.info.size
        if array.is_expert:
            counts["experts"] += array.info.size
    return {"parameters": counts, "billions": _billions(counts), "bytes": _bytes(arrays), "dtypes": _dtypes(arrays)}


def _billions(counts: Mapping[str, int]) -> dict[str, float]:
    return {name: round(count / 1e9, 3) for name, count in counts.items()}


def _bytes(arrays: Sequence[_Array]) -> int | None:
    if not all(array.info.dtype for array in arrays):
        return None
    return sum(array.info.size * DTYPES[array.info.dtype].itemsize for array in arrays)


def _dtypes(arrays: Sequence[_Array]) -> dict[str, int]:
    """Type -> number of arrays, of those whose type is known."""
    found: dict[str, int] = {}
    for array in arrays:
        if array.info.dtype:
            found[array.info.dtype] = found.get(array.info.dtype, 0) + 1
    return found
