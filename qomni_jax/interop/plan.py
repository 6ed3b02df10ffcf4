"""What a checkpoint's headers promise: every tensor has its place, and every place its tensor."""

from collections.abc import Iterable, Mapping
import dataclasses
import re
from typing import Any

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.interop.families import CONFIG_DTYPES, Family, parse_config
from qomni_jax.interop.key_map import Layout, Rule, find_layout, key_map
from qomni_jax.interop.released import Released
from qomni_jax.interop.safetensors_file import TensorInfo
from qomni_jax.storage.errors import CheckpointError, listing

# Parts of a model beside its language model, by the beginnings of their tensors' names; listed and left alone.
OTHER_PARTS = {
    "visual": re.compile(r"(thinker\.)?(model\.)?visual\."),
    "audio": re.compile(r"(thinker\.)?(model\.)?audio_tower\."),
    "talker": re.compile(r"talker\."),
    "code2wav": re.compile(r"code2wav\."),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to read one checkpoint.

    Attributes:
      family, layout, config: what it is.
      text: config.json of the language model.
      rules: released name -> rule, for all that is read.
      not_loaded: released names that are left alone.
      repeated_head: the output head is in the file although the config ties it to the embedding.
    """

    family: Family
    layout: Layout
    config: LanguageModelConfig
    text: dict[str, Any]
    rules: Mapping[str, Rule]
    not_loaded: tuple[str, ...]
    repeated_head: bool


def make_plan(released: Released) -> Plan:
    """Reads config.json and headers; no weights.

    Raises CheckpointError: the config is absent or not accepted, or tensors are missing, extra, misshapen or of a wrong
    type; one message names them all.
    """
    if released.config is None:
        raise CheckpointError(f"{released.source}: has no config.json")
    model = parse_config(released.config, f"{released.source}: config.json")
    names = released.tensors.keys()
    config = dataclasses.replace(model.config, num_mtp_layers=int(any(name.startswith("mtp.") for name in names)))
    layout = find_layout(names)
    rules = key_map(config, model.family, layout)
    not_loaded = tuple(sorted(name for name in names if model.composite and part_of(name)))
    repeated_head = config.tie_embeddings and layout.head in names
    known = {*rules, *not_loaded, *([layout.head] if repeated_head else [])}
    require_tensors(released, rules, names - known, model.text)
    return Plan(model.family, layout, config, model.text, rules, not_loaded, repeated_head)


def require_tensors(
    released: Released, rules: Mapping[str, Rule], extra: Iterable[str], config: Mapping[str, Any]
) -> None:
    """Raises CheckpointError, naming them all, for tensors that the rules miss, find misshapen or of a wrong type, and
    for the `extra` ones that have no rule. `config` is the part of config.json that declares the type."""
    problems = {
        "missing": sorted(rules.keys() - released.tensors.keys()),
        "extra": sorted(extra),
        "misshapen": _misshapen(rules, released.tensors),
        "wrong dtype": _wrong_types(rules, released.tensors, config),
    }
    if any(problems.values()):
        raise CheckpointError(f"{released.source}: {listing(problems)}")


def part_of(name: str) -> str | None:
    """Which of `OTHER_PARTS` a released tensor belongs to."""
    return next((part for part, start in OTHER_PARTS.items() if start.match(name)), None)


def leaf_dtypes(rules: Mapping[str, Rule], tensors: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Our array -> the type its released tensors have (one for all of them, as `make_plan` has seen to)."""
    return {part.leaf: tensors[name].dtype for name, rule in rules.items() for part in rule.parts}


def _misshapen(rules: Mapping[str, Rule], tensors: Mapping[str, TensorInfo]) -> list[str]:
    return [
        f"{name} {list(tensors[name].shape)} (accepted is {list(rule.shape)})"
        for name, rule in rules.items()
        if name in tensors and tensors[name].shape != rule.shape
    ]


def _wrong_types(rules: Mapping[str, Rule], tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> list[str]:
    """A tensor has the type of the config or float32, and layers do not differ: they share an array of ours."""
    declared = CONFIG_DTYPES.get(str(config.get("dtype") or config.get("torch_dtype")))
    accepted = tuple(dict.fromkeys([declared, "F32"])) if declared else tuple(CONFIG_DTYPES.values())
    wrong = []
    types: dict[str, dict[str, list[str]]] = {}
    for name, rule in rules.items():
        if name not in tensors or not tensors[name].dtype:
            continue
        dtype = tensors[name].dtype
        if dtype not in accepted:
            wrong.append(f"{name} {dtype} (accepted is {' or '.join(filter(None, accepted))})")
            continue
        for part in rule.parts:
            types.setdefault(part.leaf, {}).setdefault(dtype, []).append(name)
    for found in types.values():
        if len(found) > 1:
            common = max(found, key=lambda dtype: len(found[dtype]))
            wrong += [
                f"{name} {dtype} (accepted is {common}, as in the other layers)"
                for dtype, members in found.items()
                for name in members
                if dtype != common
            ]
    return list(dict.fromkeys(wrong))
