"""What is in a checkpoint: family, sizes, parameter totals; from config.json and headers or a list of keys alone."""

from collections.abc import Mapping
import re
from typing import Any

from qomni_jax.interop.codec_families import is_codec
from qomni_jax.interop.codec_model import plan_codec
from qomni_jax.interop.plan import Plan, make_plan, part_of
from qomni_jax.interop.released import Released
from qomni_jax.interop.safetensors_file import DTYPES, TensorInfo

# Parts that are counted apart; what is in none of them is the language model.
_PARTS = ("visual", "audio", "talker", "code2wav", "mtp", "lm_head")
_EXPERT = re.compile(r"\.mlp\.experts\.")


def inventory(released: Released) -> dict[str, Any]:
    """Family, sizes, totals and types as JSON values. Raises CheckpointError as `make_plan` or `plan_codec` does."""
    if released.config is not None and is_codec(released.config):
        return _codec_inventory(released)
    plan = make_plan(released)
    counts = _counts(plan, released.tensors)
    experts = sum(info.size for name, info in released.tensors.items() if _EXPERT.search(name) and name in plan.rules)
    experts_of_head = sum(
        info.size for name, info in released.tensors.items() if _EXPERT.search(name) and name.startswith("mtp.")
    )
    feed_forward = plan.config.decoder.feed_forward
    text = counts["language_model"] + counts["lm_head"]
    idle = 0
    if feed_forward.num_experts:
        experts_of_text = experts - experts_of_head
        idle = experts_of_text - experts_of_text * feed_forward.top_k // feed_forward.num_experts
    parameters = {"total": sum(counts.values()), **counts, "experts": experts, "active_text": text - idle}
    return {
        "source": released.source,
        "family": plan.family.name,
        "sizes": _sizes(plan),
        "parameters": parameters,
        "billions": {name: round(count / 1e9, 3) for name, count in parameters.items()},
        "bytes": _bytes(released.tensors),
        "dtypes": _dtypes(released.tensors),
        "layout": plan.layout._asdict(),
        "not_loaded": list(plan.not_loaded),
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


def not_loaded_note(names: Any) -> str:
    """One line for tensors that are in the checkpoint and that we leave there."""
    parts = [part for part in dict.fromkeys(map(part_of, names)) if part]
    if not parts:
        return f"not loaded: {len(names)} tensors that take no part in what is computed"
    return f"not loaded: {len(names)} tensors of {', '.join(parts)}: the language model alone is read"


def _codec_inventory(released: Released) -> dict[str, Any]:
    codec, rules = plan_codec(released)
    config = codec.config
    counts = dict.fromkeys(("quantizer", "encoder", "decoder"), 0)
    for name, rule in rules.items():
        counts[rule.parts[0].leaf.split("/")[0]] += released.tensors[name].size
    parameters = {"total": sum(counts.values()), **counts}
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
        "bytes": _bytes(released.tensors),
        "dtypes": _dtypes(released.tensors),
        "not_loaded": sorted(released.tensors.keys() - rules.keys()),
    }


def _counts(plan: Plan, tensors: Mapping[str, TensorInfo]) -> dict[str, int]:
    counts = dict.fromkeys(["language_model", *_PARTS], 0)
    for name, info in tensors.items():
        part = "lm_head" if name == plan.layout.head else "mtp" if name.startswith("mtp.") else part_of(name)
        counts[part or "language_model"] += info.size
    return counts


def _sizes(plan: Plan) -> dict[str, Any]:
    config, decoder = plan.config, plan.config.decoder
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


def _bytes(tensors: Mapping[str, TensorInfo]) -> int | None:
    if not all(info.dtype for info in tensors.values()):
        return None
    return sum(info.size * DTYPES[info.dtype].itemsize for info in tensors.values())


def _dtypes(tensors: Mapping[str, TensorInfo]) -> dict[str, int]:
    """Type -> number of tensors, of those whose type is known."""
    found: dict[str, int] = {}
    for info in tensors.values():
        if info.dtype:
            found[info.dtype] = found.get(info.dtype, 0) + 1
    return found
