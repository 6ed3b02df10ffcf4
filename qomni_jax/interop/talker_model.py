"""Qwen3-Omni's Talker, and the whole model that speaks with it, out of a released checkpoint."""

from collections.abc import Sequence
import os
from typing import Any, NamedTuple

from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig, SpeechTokens
from qomni_jax.config.waveform_codec import WaveformCodecConfig
from qomni_jax.interop.codec_model import open_codec, plan_codec
from qomni_jax.interop.encoder_keys import find_prefix
from qomni_jax.interop.key_map import Rule
from qomni_jax.interop.load import load_tensors
from qomni_jax.interop.plan import require_tensors
from qomni_jax.interop.released import Released, read_released
from qomni_jax.interop.talker_families import ReleasedTalker, parse_speech_tokens, parse_talker
from qomni_jax.interop.talker_keys import ANCHOR, find_experts, talker_key_map
from qomni_jax.interop.thinker_model import OpenedThinker, make_thinker_plan, open_thinker
from qomni_jax.storage.errors import CheckpointError


class OpenedQwen3Omni(NamedTuple):
    """What a checkpoint says of a whole Qwen3-Omni."""

    thinker: OpenedThinker
    talker: Qwen3OmniTalkerConfig
    codec: WaveformCodecConfig
    tokens: SpeechTokens


def open_talker(
    paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None
) -> tuple[Qwen3OmniTalkerConfig, dict[str, Any]]:
    """Config and parameters of `talker.qwen3_omni.Qwen3OmniTalker`, on the first device.

    From the Talker alone or inside Qwen3-Omni. `dtype` is that of all parameters; None keeps the types of the files.
    Raises CheckpointError with one line that names what is wrong.
    """
    released = read_released(paths)
    talker, rules = plan_talker(released)
    return talker.config, load_tensors(released, rules, dtype=dtype)


def plan_talker(released: Released) -> tuple[ReleasedTalker, dict[str, Rule]]:
    """What a checkpoint's Talker is, and a rule for every tensor of it; reads no weights.

    Raises CheckpointError: no config.json, none of a Talker, or tensors that are missing, extra, misshapen or of a
    wrong type.
    """
    if released.config is None:
        raise CheckpointError(f"{released.source}: has no config.json")
    talker = parse_talker(released.config, f"{released.source}: config.json")
    prefix = find_prefix(released.tensors, ANCHOR, released.source)
    rules = talker_key_map(talker.config, prefix, find_experts(released.tensors, prefix))
    theirs = {name for name in released.tensors if name.startswith(prefix)}
    require_tensors(released, rules, theirs - rules.keys(), talker.fields)
    return talker, rules


def open_qwen3_omni(
    paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None
) -> tuple[OpenedQwen3Omni, dict[str, Any]]:
    """A whole Qwen3-Omni: what it is, and the parameters of its `thinker`, `talker` and `codec`; as `open_talker`.

    Raises CheckpointError also where the parts do not fit each other; weights are read once all parts are understood.
    """
    released = read_released(paths)
    source = f"{released.source}: config.json"
    talker, _ = plan_talker(released)
    codec, _ = plan_codec(released)
    _require_fit(source, talker.config, codec.config, make_thinker_plan(released).stored.config.language_model.decoder)
    tokens = parse_speech_tokens(released.config or {}, source)
    thinker, thinker_parameters = open_thinker(paths, dtype=dtype)
    parameters = {"thinker": thinker_parameters, "talker": open_talker(paths, dtype=dtype)[1]}
    parameters["codec"] = open_codec(paths, dtype=dtype)[1]
    return OpenedQwen3Omni(thinker, talker.config, codec.config, tokens), parameters


def _require_fit(source: str, talker: Qwen3OmniTalkerConfig, codec: WaveformCodecConfig, thinker: Any) -> None:
    """Raises CheckpointError where the Talker does not read what the Thinker gives, or the codec what it says."""
    quantizer = codec.quantizer
    pairs = (
        ("thinker_hidden_size", talker.thinker_dim, thinker.model_dim),
        ("num_code_groups", talker.num_codebooks, quantizer.num_codebooks),
        ("code_predictor_config.vocab_size", talker.codebook_size, quantizer.codebook_size),
    )
    for name, value, accepted in pairs:
        if value != accepted:
            raise CheckpointError(f"{source}: talker_config.{name} = {value}: accepted is {accepted}, as beside it")
    if talker.accept_layer >= thinker.num_layers:
        raise CheckpointError(
            f"{source}: talker_config.accept_hidden_layer = {talker.accept_layer}: accepted is 1 to "
            f"{thinker.num_layers - 1}, a layer of the Thinker before its last"
        )
