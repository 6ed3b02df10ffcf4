"""Our own checkpoints of a Talker or a codec, alone or beside the Thinker of a whole Qwen3-Omni.

A Talker or a codec is a directory with config.json and the parameters as an orbax checkpoint. A whole Qwen3-Omni is a
directory of its Thinker (`thinker.storage`), which all that reads Thinkers reads, with two more in it, `talker` and
`codec`, and speech.json, which keeps what the released config.json says beside its parts.
"""

from collections.abc import Callable, Mapping, Sequence
import os
from pathlib import Path
from typing import Any, NamedTuple

from qomni_jax.interop.key_map import leaf_shapes
from qomni_jax.interop.load import load_tensors
from qomni_jax.interop.released import Released, read_released
from qomni_jax.interop.speech_form import SpeechForm
from qomni_jax.interop.talker_families import QWEN3_OMNI_TALKER
from qomni_jax.storage.arrays import flat
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.storage.files import read_json, write_json
from qomni_jax.storage.parameters import require_shapes, restore_parameters, save_parameters
from qomni_jax.thinker.storage import is_thinker

TALKER, CODEC = "talker", "codec"
_FORMATS = {TALKER: "qomni_jax qwen3_omni talker 1", CODEC: "qomni_jax waveform codec 1"}
_TITLES = {TALKER: "a Talker", CODEC: "a codec"}
_CONFIG, _SPEECH = "config.json", "speech.json"


class SpeechForms(NamedTuple):
    """How a whole Qwen3-Omni writes what is not its Thinker; `config` is its config.json without those of its parts."""

    talker: SpeechForm
    codec: SpeechForm
    config: Mapping[str, Any]


def open_speech_part(
    paths: Sequence[str | os.PathLike[str]],
    part: str,
    make_plan: Callable[[Released], SpeechForm],
    *,
    dtype: Any = None,
) -> tuple[SpeechForm, dict[str, Any]]:
    """The form and the parameters of the `talker` or the `codec` of a checkpoint of ours, or of released ones.

    `make_plan` reads config.json and headers of a released one. `dtype` is that of all parameters; None keeps the types
    of the files. Raises CheckpointError with one line that names what is wrong.
    """
    directory = find_speech_part(paths, part)
    if directory is not None:
        form = describe_speech_part(directory)
        return form, restore_parameters(directory, leaf_shapes(form.rules()), dtype=dtype)
    released = read_released(paths)
    form = make_plan(released)
    return form, load_tensors(released, form.rules(), dtype=dtype)


def write_speech_part(directory: Path, form: SpeechForm, parameters: Mapping[str, Any]) -> None:
    """The files of a Talker or a codec in a directory that is there.

    Raises CheckpointError when the parameters are not those of the form.
    """
    require_shapes(f"parameters for {directory}", flat(parameters), leaf_shapes(form.rules()))
    save_parameters(directory, parameters)
    write_json(directory / _CONFIG, {"format": _FORMATS[_part(form)], **form.to_json()})


def held_speech_part(path: str | os.PathLike[str]) -> str | None:
    """`talker` or `codec`, where a directory is one of ours; None for any other."""
    config = Path(path) / _CONFIG
    found = read_json(config).get("format") if config.is_file() else None
    return next((part for part, name in _FORMATS.items() if name == found), None)


def find_speech_part(paths: Sequence[str | os.PathLike[str]], part: str) -> Path | None:
    """The directory of ours that holds the part, or None where the first path is not ours.

    Raises CheckpointError where it is ours and holds another part alone, or has further paths beside it.
    """
    path = Path(paths[0])
    held = held_speech_part(path)
    if held is None and not is_thinker(path):
        return None
    if len(paths) > 1:
        raise CheckpointError(f"{path}: is complete: accepted is this one alone")
    if held == part:
        return path
    if held is None and is_whole(path):
        return path / part
    alone = _TITLES[held] if held else "a Thinker"
    raise CheckpointError(f"{path}: holds {alone} alone: accepted is {_TITLES[part]}, or a whole Qwen3-Omni")


def describe_speech_part(directory: Path) -> SpeechForm:
    """The form of our Talker or codec; raises CheckpointError when config.json is not what was written."""
    path = directory / _CONFIG
    return SpeechForm.from_json(read_json(path), str(path))


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Whether a directory of ours holds a whole Qwen3-Omni."""
    return (Path(path) / _SPEECH).is_file() and is_thinker(path)


def write_outer_config(directory: Path, config: Mapping[str, Any]) -> None:
    """Makes a Thinker's directory one of a whole Qwen3-Omni, with `config` as in `SpeechForms`."""
    write_json(directory / _SPEECH, dict(config))


def describe_whole(directory: Path) -> SpeechForms:
    """What is not the Thinker of a whole Qwen3-Omni of ours. Raises CheckpointError where it is not whole."""
    if not is_whole(directory):
        raise CheckpointError(f"{directory}: holds no whole Qwen3-Omni: accepted is one with {_SPEECH}")
    talker, codec = (describe_speech_part(directory / part) for part in (TALKER, CODEC))
    return SpeechForms(talker, codec, read_json(directory / _SPEECH))


def _part(form: SpeechForm) -> str:
    return TALKER if form.family == QWEN3_OMNI_TALKER else CODEC
