"""A codec out of a checkpoint of it alone, or of a model that holds it; a released one, or one of ours."""

from collections.abc import Sequence
import os
from typing import Any

from qomni_jax.config.waveform_codec import WaveformCodecConfig
from qomni_jax.interop.codec_families import parse_codec
from qomni_jax.interop.codec_keys import ANCHORS, FLAG, FLAGS
from qomni_jax.interop.encoder_keys import find_prefix
from qomni_jax.interop.plan import require_tensors
from qomni_jax.interop.released import Released
from qomni_jax.interop.speech_form import SpeechForm
from qomni_jax.interop.speech_storage import CODEC, open_speech_part
from qomni_jax.storage.errors import CheckpointError


def open_codec(
    paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None
) -> tuple[WaveformCodecConfig, dict[str, Any]]:
    """Config and parameters of `codec.WaveformCodec`, on the first device.

    From Code2Wav alone or inside Qwen3-Omni, from the decoder of the Qwen3-TTS 12 Hz tokenizer, or from Mimi; from what
    `convert` wrote as from the release. `dtype` is that of all parameters; None keeps the types of the files. Raises
    CheckpointError with one line that names what is wrong.
    """
    form, parameters = read_codec(paths, dtype=dtype)
    parameters.pop(FLAGS, None)
    assert isinstance(form.config, WaveformCodecConfig)
    return form.config, parameters


def read_codec(paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None) -> tuple[SpeechForm, dict[str, Any]]:
    """The same as it is written: with its released form, and the flags of its file."""
    return open_speech_part(paths, CODEC, plan_codec, dtype=dtype)


def plan_codec(released: Released) -> SpeechForm:
    """What a checkpoint's codec is; reads no weights, and every tensor of it has a rule.

    Raises CheckpointError: no config.json, none of a codec, or tensors that are missing, extra, misshapen or of a wrong
    type.
    """
    if released.config is None:
        raise CheckpointError(f"{released.source}: has no config.json")
    codec = parse_codec(released.config, f"{released.source}: config.json")
    prefix = find_prefix(released.tensors, ANCHORS[codec.family], released.source)
    theirs = {name for name in released.tensors if name.startswith(prefix)}
    form = SpeechForm(*codec, prefix, flags=any(map(FLAG.fullmatch, theirs)))
    rules = form.rules()
    require_tensors(released, rules, theirs - rules.keys(), codec.fields)
    return form
