"""A Thinker out of a released checkpoint: Qwen3.5 with vision, or the Thinker of Qwen3-Omni."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
from typing import Any, NamedTuple

from qomni_jax.config.sequence import SequenceConfig, qwen3_5, qwen3_omni
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.interop.encoder_families import parse_audio_encoder, parse_vision_encoder
from qomni_jax.interop.encoder_keys import AUDIO_ANCHOR, VISION_ANCHOR, audio_key_map, find_prefix, vision_key_map
from qomni_jax.interop.errors import CheckpointError
from qomni_jax.interop.key_map import Rule, scoped
from qomni_jax.interop.load import load_tensors, require_equal_head
from qomni_jax.interop.plan import make_plan, part_of, require_tensors
from qomni_jax.interop.released import read_released
from qomni_jax.sequence.elements import Kind

_PAD_FIELDS = {Kind.AUDIO: "audio_token_id", Kind.IMAGE: "image_token_id", Kind.VIDEO: "video_token_id"}


class ReleasedThinker(NamedTuple):
    """What a released config.json says of a Thinker.

    Attributes:
      config: ours.
      sequence: how its prompts are laid out.
      pads: the id that stands for a feature, for every kind that the model reads.
    """

    config: ThinkerConfig
    sequence: SequenceConfig
    pads: dict[Kind, int]


def open_thinker(
    paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None, shardings: Mapping[str, Any] | None = None
) -> tuple[ReleasedThinker, dict[str, Any]]:
    """What it is, and the parameters of `thinker.Thinker`; arguments as those of `load.load_tensors`.

    Talker and codec of a whole Qwen3-Omni are left alone. Raises CheckpointError with one line that names what is
    wrong.
    """
    released = read_released(paths)
    plan = make_plan(released)
    outer = released.config or {}
    inner = outer.get("thinker_config", outer)
    source = f"{released.source}: config.json"
    rules = {name: scoped(rule, "", "language_model/") for name, rule in plan.rules.items()}
    config = ThinkerConfig(plan.config)
    if "vision_config" in inner:
        vision = parse_vision_encoder(outer, source)
        prefix = find_prefix(released.tensors, VISION_ANCHOR, released.source)
        rules |= _scoped(vision_key_map(vision.config, vision.model_type, prefix), "vision_encoder/")
        config = dataclasses.replace(config, vision=vision.config)
    if "audio_config" in inner:
        audio = parse_audio_encoder(outer, source)
        prefix = find_prefix(released.tensors, AUDIO_ANCHOR, released.source)
        rules |= _scoped(audio_key_map(audio.config, prefix), "audio_encoder/")
        config = dataclasses.replace(config, audio=audio.config)
    unknown = [name for name in plan.not_loaded if part_of(name) in ("visual", "audio") and name not in rules]
    require_tensors(released, rules, unknown, plan.text)
    require_equal_head(released, plan)
    pads = {}
    for kind, field in _PAD_FIELDS.items():
        if kind is Kind.AUDIO and config.audio is None:
            continue
        if not isinstance(inner.get(field), int):
            raise CheckpointError(f"{source}: {field} = {inner.get(field)!r}: accepted is the id of a token")
        pads[kind] = inner[field]
    sequence = qwen3_omni() if config.audio is not None else qwen3_5()
    if config.audio is not None:
        per_second = float(inner.get("position_id_per_seconds", sequence.ids_per_second))
        sequence = dataclasses.replace(sequence, ids_per_second=per_second)
    return ReleasedThinker(config, sequence, pads), load_tensors(released, rules, dtype=dtype, shardings=shardings)


def _scoped(rules: Mapping[str, Rule], ours: str) -> dict[str, Rule]:
    return {name: scoped(rule, "", ours) for name, rule in rules.items()}
