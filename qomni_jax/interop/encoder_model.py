"""An audio or vision encoder out of a checkpoint of it alone, or of a model that holds it."""

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
from typing import Any

from qomni_jax.config.audio import AudioEncoderConfig
from qomni_jax.config.vision import VisionEncoderConfig
from qomni_jax.interop.encoder_families import parse_audio_encoder, parse_vision_encoder
from qomni_jax.interop.encoder_keys import AUDIO_ANCHOR, VISION_ANCHOR, audio_key_map, find_prefix, vision_key_map
from qomni_jax.interop.key_map import Rule
from qomni_jax.interop.load import load_tensors
from qomni_jax.interop.plan import require_tensors
from qomni_jax.interop.released import Released, read_released
from qomni_jax.interop.thinker_model import describe_ours
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.thinker.storage import is_thinker, load_thinker_parameters


def open_audio_encoder(
    paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None
) -> tuple[AudioEncoderConfig, dict[str, Any]]:
    """Config and parameters of `audio.aut.AudioEncoder`, on the first device, from Qwen3-Omni, its encoder alone, or a
    Thinker of ours.

    `dtype` is that of all parameters; None keeps the types of the files. Raises CheckpointError with one line that
    names what is wrong.
    """
    if is_thinker(paths[0]):
        return _open_part(paths, "audio", dtype)
    released = read_released(paths)
    encoder = parse_audio_encoder(_config(released), f"{released.source}: config.json")
    prefix = find_prefix(released.tensors, AUDIO_ANCHOR, released.source)
    rules = audio_key_map(encoder.config, prefix)
    return encoder.config, _load(released, rules, prefix, encoder.fields, dtype)


def open_vision_encoder(
    paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None
) -> tuple[VisionEncoderConfig, dict[str, Any]]:
    """The same for `vision.tower.VisionEncoder`, from Qwen3.5, Qwen3-Omni, the encoder alone, or a Thinker."""
    if is_thinker(paths[0]):
        return _open_part(paths, "vision", dtype)
    released = read_released(paths)
    encoder = parse_vision_encoder(_config(released), f"{released.source}: config.json")
    prefix = find_prefix(released.tensors, VISION_ANCHOR, released.source)
    rules = vision_key_map(encoder.config, encoder.model_type, prefix)
    return encoder.config, _load(released, rules, prefix, encoder.fields, dtype)


def _open_part(paths: Sequence[str | os.PathLike[str]], name: str, dtype: Any) -> tuple[Any, dict[str, Any]]:
    """An encoder of a Thinker of ours."""
    directory, config = Path(paths[0]), describe_ours(paths).stored.config
    encoder = getattr(config, name)
    if encoder is None:
        raise CheckpointError(f"{directory}: config.{name} = None: accepted is a Thinker with that encoder")
    return encoder, load_thinker_parameters(directory, config, part=f"{name}_encoder", dtype=dtype)


def _config(released: Released) -> dict[str, Any]:
    if released.config is None:
        raise CheckpointError(f"{released.source}: has no config.json")
    return released.config


def _load(
    released: Released, rules: Mapping[str, Rule], prefix: str, fields: Mapping[str, Any], dtype: Any
) -> dict[str, Any]:
    extra = {name for name in released.tensors if name.startswith(prefix)} - rules.keys()
    require_tensors(released, rules, extra, fields)
    return load_tensors(released, rules, dtype=dtype)
