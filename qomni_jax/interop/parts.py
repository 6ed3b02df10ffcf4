"""What can be taken of a checkpoint: the parts that `--part` names, into a directory of ours and out again."""

from collections.abc import Callable, Mapping, Sequence
import os
from pathlib import Path
from typing import Any, NamedTuple

from qomni_jax.interop.codec_families import is_codec
from qomni_jax.interop.codec_keys import FLAGS
from qomni_jax.interop.codec_model import plan_codec, read_codec
from qomni_jax.interop.key_map import Layout
from qomni_jax.interop.model import open_language_model
from qomni_jax.interop.plan import make_plan
from qomni_jax.interop.released import Released, read_released
from qomni_jax.interop.save import export, export_qwen3_omni, export_speech_part, export_thinker
from qomni_jax.interop.speech_form import SpeechForm
from qomni_jax.interop.speech_storage import (
    CODEC,
    TALKER,
    held_speech_part,
    is_whole,
    write_outer_config,
    write_speech_part,
)
from qomni_jax.interop.storage import is_converted, save
from qomni_jax.interop.talker_families import is_talker, speaks
from qomni_jax.interop.talker_model import open_qwen3_omni, plan_qwen3_omni, plan_talker, read_talker
from qomni_jax.interop.thinker_form import ThinkerForm, has_encoders
from qomni_jax.interop.thinker_model import (
    copy_companions,
    describe_ours,
    make_thinker_plan,
    open_thinker,
    write_converted,
)
from qomni_jax.storage.arrays import flat
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.storage.files import new_directory
from qomni_jax.thinker.storage import is_thinker

Paths = Sequence[str | os.PathLike[str]]
PARTS = {
    "all": "whole model",
    "thinker": "Thinker",
    "language_model": "language model",
    TALKER: "Talker",
    CODEC: "codec",
}
_WHOLE = "qwen3_omni"
_READ: dict[str, Callable[..., tuple[SpeechForm, dict[str, Any]]]] = {TALKER: read_talker, CODEC: read_codec}


class Taken(NamedTuple):
    """What a command has written: of which family, how many parameters, in which files."""

    family: str
    parameters: int
    files: tuple[str, ...] = ()


def is_ours(path: Path) -> bool:
    """Whether a directory is one that `convert` or a training has written."""
    return is_converted(path) or is_thinker(path) or held_speech_part(path) is not None


def choose_part(asked: str | None, paths: Paths) -> str:
    """The part that is asked for, or all that there is. Raises CheckpointError for one that the checkpoint lacks."""
    held = _held(paths)
    if asked is not None and asked not in held:
        raise CheckpointError(f"{paths[0]}: --part={asked}: accepted is {' or '.join(held)}: it holds no other part")
    return asked or held[0]


def left_alone(part: str, released: Released) -> tuple[str, ...]:
    """The tensors that are not of the part. Raises CheckpointError where those of the part are not as expected."""
    if part == "all":
        return ()
    if part == "thinker":
        return make_thinker_plan(released).not_loaded
    if part == "language_model":
        return make_plan(released).not_loaded
    form = plan_talker(released) if part == TALKER else plan_codec(released)
    return tuple(sorted(released.tensors.keys() - form.rules().keys()))


def convert_part(part: str, paths: Paths, out: Path, dtype: str | None) -> Taken:
    """Writes a part of a released checkpoint as ours, whole or not at all; raises CheckpointError with one line."""
    if part == "language_model":
        description, parameters = open_language_model(paths, dtype=dtype)
        save(out, description, parameters)
        return Taken(description.family.name, _count(parameters))
    if part in _READ:
        form, parameters = _READ[part](paths, dtype=dtype)
        with new_directory(out) as directory:
            write_speech_part(directory, form.alone(), parameters)
            if not form.prefix:
                copy_companions(paths[0], directory)
        return Taken(form.family, _count(parameters))
    speech = plan_qwen3_omni(paths)[0] if part == "all" else None
    with new_directory(out) as directory:
        opened, parameters = open_thinker(paths, dtype=dtype)
        write_converted(directory, opened, parameters, paths[0])
        count = _count(parameters)
        if speech is None:
            return Taken(opened.released_form(str(paths[0])).family.name, count)
        for name, read in _READ.items():  # one part in memory at a time
            del parameters
            form, parameters = read(paths, dtype=dtype)
            (directory / name).mkdir()
            write_speech_part(directory / name, form, parameters)
            count += _count(parameters)
        write_outer_config(directory, speech.config)
    return Taken(_WHOLE, count)


def export_part(
    part: str, paths: Paths, out: Path, dtype: str | None, experts: str | None, max_shard_bytes: int
) -> Taken:
    """Writes a part of a checkpoint, ours or released, as a released one; otherwise as `convert_part`.

    `experts`: `fused` or `per_expert`; None as it came.
    """
    first = Path(paths[0])
    source = str(first)
    if part == "language_model":
        description, parameters = open_language_model(paths, dtype=dtype)
        description = description._replace(layout=_layout(description.layout, experts))
        files = export(out, description, parameters, max_shard_bytes=max_shard_bytes)
        return Taken(description.family.name, _count(parameters), tuple(files))
    if part in _READ:
        form, parameters = _READ[part](paths, dtype=dtype)
        companions = None if form.prefix else first
        form = _with_experts(form.alone(), experts)
        files = export_speech_part(out, form, parameters, companions, max_shard_bytes=max_shard_bytes)
        return Taken(form.family, _count(parameters), tuple(files))
    if is_thinker(first):  # before the weights are read: there may be no release of its kind
        describe_ours(paths).released_form(source)
    if part == "thinker":
        opened, parameters = open_thinker(paths, dtype=dtype)
        thinker = _thinker_form(opened.released_form(source), experts)
        files = export_thinker(out, opened, thinker, parameters, first, max_shard_bytes=max_shard_bytes)
        return Taken(thinker.family.name, _count(parameters), tuple(files))
    whole, parameters = open_qwen3_omni(paths, dtype=dtype)
    forms = whole.forms._replace(talker=_with_experts(whole.forms.talker, experts))
    thinker = _thinker_form(whole.thinker.released_form(source).inside(), experts)
    files = export_qwen3_omni(
        out, whole._replace(forms=forms), thinker, parameters, first, max_shard_bytes=max_shard_bytes
    )
    return Taken(_WHOLE, _count(parameters), tuple(files))


def _held(paths: Paths) -> tuple[str, ...]:
    """The parts that a checkpoint holds, that of which it consists first."""
    first = Path(paths[0])
    if is_converted(first):
        return ("language_model",)
    speech = held_speech_part(first)
    if speech is not None:
        return (speech,)
    if is_thinker(first):
        return tuple(PARTS) if is_whole(first) else ("thinker", "language_model")
    config = read_released(paths).config or {}
    if speaks(config):
        return tuple(PARTS)
    if has_encoders(config):
        return ("thinker", "language_model")
    if is_talker(config):
        return (TALKER,)
    return (CODEC,) if is_codec(config) else ("language_model", "thinker")


def _thinker_form(form: ThinkerForm, experts: str | None) -> ThinkerForm:
    return form._replace(layout=_layout(form.layout, experts))


def _layout(layout: Layout, experts: str | None) -> Layout:
    return layout._replace(experts=experts, mtp_experts=experts) if experts else layout


def _with_experts(form: SpeechForm, experts: str | None) -> SpeechForm:
    return form._replace(experts=experts) if experts else form


def _count(parameters: Mapping[str, Any]) -> int:
    return sum(leaf.size for name, leaf in flat(parameters).items() if not name.startswith(f"{FLAGS}/"))
