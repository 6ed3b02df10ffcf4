"""What is in a checkpoint: family, sizes, parameter totals; from config.json and headers or a list of keys alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
import re
from typing import Any, NamedTuple

import numpy as np

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.interop.codec_families import is_codec
from qomni_jax.interop.codec_model import plan_codec
from qomni_jax.interop.key_map import key_map, leaf_shapes
from qomni_jax.interop.plan import Plan, make_plan, part_of
from qomni_jax.interop.released import Released
from qomni_jax.interop.safetensors_file import DTYPES, NAMES, TensorInfo
from qomni_jax.interop.storage import describe as describe_language_model
from qomni_jax.interop.thinker_form import has_encoders
from qomni_jax.interop.thinker_model import describe_ours, make_thinker_plan
from qomni_jax.storage.parameters import require_shapes, saved_arrays
from qomni_jax.thinker.storage import is_thinker, parameter_shapes

# Parts that are counted apart; what is in none of them is the language model.
_REST = "language_model"
_PARTS = ("visual", "audio", "talker", "code2wav", "mtp", "lm_head")
# The same by the beginnings of our arrays' names.
_OURS = {"vision_encoder/": "visual", "audio_encoder/": "audio", "mtp/": "mtp", "lm_head/": "lm_head"}
_EXPERT = re.compile(r"\.mlp\.experts\.")


class _Array(NamedTuple):
    """A tensor to count: the part that it belongs to, and whether experts share it out among tokens."""

    part: str
    is_expert: bool
    info: TensorInfo


def inventory(released: Released) -> dict[str, Any]:
    """Family, sizes, totals and types as JSON values. Raises CheckpointError as `make_plan` or `plan_codec` does."""
    if released.config is not None and is_codec(released.config):
        return _codec_inventory(released)
    plan = make_plan(released)
    not_loaded = plan.not_loaded
    if has_encoders(released.config or {}):
        not_loaded = make_thinker_plan(released).not_loaded
    tensors = [_Array(_part(plan, name), bool(_EXPERT.search(name)), info) for name, info in released.tensors.items()]
    return {
        "source": released.source,
        "family": plan.family.name,
        "sizes": _sizes(plan.config),
        **_totals(plan.config, tensors),
        "layout": plan.layout._asdict(),
        "not_loaded": list(not_loaded),
    }


def inventory_of_ours(path: Path) -> dict[str, Any]:
    """The same of a directory of ours, whose arrays are counted in the place of released tensors.

    Raises CheckpointError where it is not whole.
    """
    if is_thinker(path):
        opened = describe_ours([path])
        config, form = opened.stored.config.language_model, opened.form
        family, layout = ("qomni", None) if form is None else (form.family.name, form.layout._asdict())
        shapes = parameter_shapes(opened.stored.config)
    else:
        description = describe_language_model(path)
        config, family, layout = description.config, description.family.name, description.layout._asdict()
        shapes = leaf_shapes(key_map(description.config, description.family, description.layout))
    saved = saved_arrays(path)
    require_shapes(str(path), saved, shapes)
    arrays = [
        _Array(_our_part(name), "/experts_" in name, TensorInfo(NAMES[np.dtype(array.dtype)], tuple(array.shape)))
        for name, array in saved.items()
    ]
    return {
        "source": str(path),
        "family": family,
        "sizes": _sizes(config),
        **_totals(config, arrays),
        "layout": layout,
        "not_loaded": [],
    }


def describe(found: Mapping[str, Any]) -> str:
    """The inventory for people to read."""
    lines = [f"{found['source']}: {found['family']}"]
    lines += [f"  {name:32}{value}" for name, value in found["sizes"].items()]
    lines.append("parameters (billions)")
    lines += [
        f"  {name:32}{found['billions'][name]:8.3f}{count:20,}" for name, count in found["parameters"].items() if count
    ]
    if found["dtypes"]:
        lines.append(f"types: {', '.join(f'{name} ({count})' for name, count in found['dtypes'].items())}")
    if found["not_loaded"]:
        lines.append(not_loaded_note(found["not_loaded"]))
    return "\n".join(lines)


def not_loaded_note(names: Any, read: str = "Thinker") -> str:
    """One line for tensors that are in the checkpoint and that we leave there; `read` is what we take."""
    parts = [part for part in dict.fromkeys(map(part_of, names)) if part]
    if not parts:
        return f"not loaded: {len(names)} tensors that take no part in what is computed"
    return f"not loaded: {len(names)} tensors of {', '.join(parts)}: the {read} alone is read"


def _part(plan: Plan, name: str) -> str:
    return "lm_head" if name == plan.layout.head else "mtp" if name.startswith("mtp.") else part_of(name) or _REST


def _codec_inventory(released: Released) -> dict[str, Any]:
    codec, rules = plan_codec(released)
    config = codec.config
    counts = dict.fromkeys(("quantizer", "encoder", "decoder"), 0)
    for name, rule in rules.items():
        counts[rule.parts[0].leaf.split("/")[0]] += released.tensors[name].size
    parameters = {"total": sum(counts.values()), **counts}
    arrays = [_Array(codec.family, False, info) for info in released.tensors.values()]
    sizes: dict[str, Any] = {
        "sample_rate": config.sample_rate,
        "frame_rate": config.frame_rate,
        "samples_per_frame": config.samples_per_frame,
        "delay": config.decoder.delay,
        "num_codebooks": config.quantizer.num_codebooks,
        "codebook_size": config.quantizer.codebook_size,
    }
    sizes |= {f"transformer.{name}": value for name, value in vars(config.decoder.transformer).items()}
    sizes |= {f"stack.{name}": value for name, value in vars(config.decoder.stack).items()}
    return {
        "source": released.source,
        "family": codec.family,
        "sizes": {name: list(value) if isinstance(value, tuple) else value for name, value in sizes.items()},
        "parameters": parameters,
        "billions": {name: round(count / 1e9, 3) for name, count in parameters.items()},
        "bytes": _bytes(arrays),
        "dtypes": _dtypes(arrays),
        "not_loaded": sorted(released.tensors.keys() - rules.keys()),
    }


def _our_part(name: str) -> str:
    name = name.removeprefix("language_model/")
    return next((part for start, part in _OURS.items() if name.startswith(start)), _REST)


def _totals(config: LanguageModelConfig, arrays: Sequence[_Array]) -> dict[str, Any]:
    """Parameters by part, their bytes and types."""
    counts = dict.fromkeys([_REST, *_PARTS], 0)
    for array in arrays:
        counts[array.part] += array.info.size
    experts = {
        part: sum(array.info.size for array in arrays if array.part == part and array.is_expert)
        for part in (_REST, "mtp")
    }
    feed_forward = config.decoder.feed_forward
    idle = 0
    if feed_forward.num_experts:
        idle = experts[_REST] - experts[_REST] * feed_forward.top_k // feed_forward.num_experts
    active = counts[_REST] + counts["lm_head"] - idle
    total = sum(counts.values())
    parameters = {"total": total, **counts, "experts": sum(experts.values()), "active_text": active}
    return {
        "parameters": parameters,
        "billions": {name: round(count / 1e9, 3) for name, count in parameters.items()},
        "bytes": _bytes(arrays),
        "dtypes": _dtypes(arrays),
    }


def _sizes(config: LanguageModelConfig) -> dict[str, Any]:
    decoder = config.decoder
    kinds = decoder.pattern * decoder.periods
    sizes: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "model_dim": decoder.model_dim,
        "gated_delta_net_layers": kinds.count("gdn"),
        "attention_layers": kinds.count("attention"),
        "mtp_layers": config.num_mtp_layers,
        "tie_embeddings": config.tie_embeddings,
    }
    parts = {"attention": decoder.attention, "gated_delta_net": decoder.gdn, "feed_forward": decoder.feed_forward}
    shown = {
        "attention": ("num_heads", "num_kv_heads", "head_dim", "rotary_dim", "rope_theta", "mrope_section"),
        "gated_delta_net": ("num_key_heads", "num_value_heads", "head_key_dim", "head_value_dim", "conv_width"),
        "feed_forward": ("hidden_dim", "num_experts", "top_k", "expert_dim")
        if decoder.feed_forward.num_experts
        else ("hidden_dim",),
    }
    if "gdn" not in kinds:
        del shown["gated_delta_net"]
    return sizes | {f"{part}.{name}": getattr(parts[part], name) for part, names in shown.items() for name in names}


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
