"""Qwen3-Omni's Talker, and the whole model that speaks with it, out of a released checkpoint or of one of ours."""

from collections.abc import Sequence
import os
from pathlib import Path
from typing import Any, NamedTuple

from qomni_jax.config.decoder import DecoderConfig
from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig, SpeechTokens
from qomni_jax.config.waveform_codec import WaveformCodecConfig
from qomni_jax.interop.codec_model import open_codec, plan_codec
from qomni_jax.interop.encoder_keys import find_prefix
from qomni_jax.interop.plan import require_tensors
from qomni_jax.interop.released import Released, read_released
from qomni_jax.interop.speech_form import SpeechForm
from qomni_jax.interop.speech_storage import TALKER, SpeechForms, describe_whole, open_speech_part
from qomni_jax.interop.talker_families import QWEN3_OMNI_TALKER, parse_speech_tokens, parse_talker
from qomni_jax.interop.talker_keys import ANCHOR, find_experts
from qomni_jax.interop.thinker_model import OpenedThinker, describe_ours, make_thinker_plan, open_thinker
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.thinker.storage import is_thinker

# Of the config.json of a whole Qwen3-Omni: what its parts keep.
_PARTS = {"thinker_config", "talker_config", "code2wav_config"}


class OpenedQwen3Omni(NamedTuple):
    """What a checkpoint says of a whole Qwen3-Omni; `forms`: how the release writes what is not its Thinker."""

    thinker: OpenedThinker
    talker: Qwen3OmniTalkerConfig
    codec: WaveformCodecConfig
    tokens: SpeechTokens
    forms: SpeechForms


def open_talker(
    paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None
) -> tuple[Qwen3OmniTalkerConfig, dict[str, Any]]:
    """Config and parameters of `talker.qwen3_omni.Qwen3OmniTalker`, on the first device.

    From the Talker alone or inside Qwen3-Omni; from what `convert` wrote as from the release. `dtype` is that of all
    parameters; None keeps the types of the files. Raises CheckpointError with one line that names what is wrong.
    """
    form, parameters = read_talker(paths, dtype=dtype)
    assert isinstance(form.config, Qwen3OmniTalkerConfig)
    return form.config, parameters


def read_talker(paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None) -> tuple[SpeechForm, dict[str, Any]]:
    """The same with its released form in the place of its config."""
    return open_speech_part(paths, TALKER, plan_talker, dtype=dtype)


def plan_talker(released: Released) -> SpeechForm:
    """What a checkpoint's Talker is; reads no weights, and every tensor of it has a rule.

    Raises CheckpointError: no config.json, none of a Talker, or tensors that are missing, extra, misshapen or of a
    wrong type.
    """
    if released.config is None:
        raise CheckpointError(f"{released.source}: has no config.json")
    talker = parse_talker(released.config, f"{released.source}: config.json")
    prefix = find_prefix(released.tensors, ANCHOR, released.source)
    form = SpeechForm(QWEN3_OMNI_TALKER, *talker, prefix, find_experts(released.tensors, prefix))
    rules = form.rules()
    theirs = {name for name in released.tensors if name.startswith(prefix)}
    require_tensors(released, rules, theirs - rules.keys(), talker.fields)
    return form


def open_qwen3_omni(
    paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None
) -> tuple[OpenedQwen3Omni, dict[str, Any]]:
    """A whole Qwen3-Omni: what it is, and the parameters of its `thinker`, `talker` and `codec`; as `open_talker`.

    Raises CheckpointError also where the parts do not fit each other; weights are read once all parts are understood.
    """
    forms, tokens = plan_qwen3_omni(paths)
    thinker, thinker_parameters = open_thinker(paths, dtype=dtype)
    talker, talker_parameters = open_talker(paths, dtype=dtype)
    codec, codec_parameters = open_codec(paths, dtype=dtype)
    parameters = {"thinker": thinker_parameters, "talker": talker_parameters, "codec": codec_parameters}
    return OpenedQwen3Omni(thinker, talker, codec, tokens, forms), parameters


def plan_qwen3_omni(paths: Sequence[str | os.PathLike[str]]) -> tuple[SpeechForms, SpeechTokens]:
    """What the parts of a whole Qwen3-Omni beside its Thinker are; reads no weights.

    Raises CheckpointError where a part is not there or not as its config says, or the parts do not fit each other.
    """
    first = Path(paths[0])
    if is_thinker(first):
        source, forms, thinker = str(first), describe_whole(first), describe_ours(paths).stored
    else:
        released = read_released(paths)
        source, forms = f"{released.source}: config.json", released_forms(released)
        thinker = make_thinker_plan(released).stored
    _require_fit(source, forms, thinker.config.language_model.decoder)
    return forms, parse_speech_tokens(forms.config, source)


def released_forms(released: Released) -> SpeechForms:
    """What a released checkpoint says of what is not its Thinker; errors as in `plan_talker` and `plan_codec`."""
    talker, codec = plan_talker(released), plan_codec(released)
    outer = {name: value for name, value in (released.config or {}).items() if name not in _PARTS}
    return SpeechForms(talker, codec, outer)


def _require_fit(source: str, forms: SpeechForms, thinker: DecoderConfig) -> None:
    """Raises CheckpointError where the Talker does not read what the Thinker gives, or the codec what it says."""
    talker, codec = forms.talker.config, forms.codec.config
    assert isinstance(talker, Qwen3OmniTalkerConfig)
    assert isinstance(codec, WaveformCodecConfig)
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
