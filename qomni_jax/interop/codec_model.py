"""A codec out of a released checkpoint of it alone, or of a model that holds it."""

from collections.abc import Sequence
import os
from typing import Any

from qomni_jax.config.waveform_codec import WaveformCodecConfig
from qomni_jax.interop.codec_families import ReleasedCodec, parse_codec
from qomni_jax.interop.codec_keys import ANCHORS, UNUSED, codec_key_map
from qomni_jax.interop.encoder_keys import find_prefix
from qomni_jax.interop.key_map import Rule
from qomni_jax.interop.load import load_tensors
from qomni_jax.interop.plan import require_tensors
from qomni_jax.interop.released import Released, read_released
from qomni_jax.storage.errors import CheckpointError


def open_codec(
    paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None
) -> tuple[WaveformCodecConfig, dict[str, Any]]:
    """Config and parameters of `codec.WaveformCodec`, on the first device.

    From Code2Wav alone or inside Qwen3-Omni, from the decoder of the Qwen3-TTS 12 Hz tokenizer, or from Mimi. `dtype`
    is that of all parameters; None keeps the types of the files. Raises CheckpointError with one line that names what
    is wrong.
    """
    released = read_released(paths)
    codec, rules = plan_codec(released)
    return codec.config, load_tensors(released, rules, dtype=dtype)


def plan_codec(released: Released) -> tuple[ReleasedCodec, dict[str, Rule]]:
    """What a checkpoint's codec is, and a rule for every tensor of it; reads no weights.

    Raises CheckpointError: no config.json, none of a codec, or tensors that are missing, extra, misshapen or of a wrong
    type.
    """
    if released.config is None:
        raise CheckpointError(f"{released.source}: has no config.json")
    codec = parse_codec(released.config, f"{released.source}: config.json")
    prefix = find_prefix(released.tensors, ANCHORS[codec.family], released.source)
    rules = codec_key_map(codec.config, codec.family, prefix)
    theirs = {name for name in released.tensors if name.startswith(prefix) and not UNUSED.fullmatch(name)}
    require_tensors(released, rules, theirs - rules.keys(), codec.fields)
    return codec, rules
