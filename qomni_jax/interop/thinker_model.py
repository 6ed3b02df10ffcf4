"""A whole Thinker out of any checkpoint that we read: a released one, or a directory of ours."""

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import shutil
from typing import Any, NamedTuple

from qomni_jax.interop.encoder_keys import AUDIO_ANCHOR, VISION_ANCHOR, find_prefix
from qomni_jax.interop.key_map import Rule
from qomni_jax.interop.load import load_tensors, require_equal_head
from qomni_jax.interop.plan import Plan, make_plan, part_of, require_tensors
from qomni_jax.interop.released import Released, read_released
from qomni_jax.interop.thinker_config import find_form
from qomni_jax.interop.thinker_form import ThinkerForm, read_pads, read_thinker_config, thinker_part
from qomni_jax.sequence.assembly import PAD_OF
from qomni_jax.sequence.elements import Kind
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.storage.files import read_json, write_json
from qomni_jax.thinker.storage import (
    StoredThinker,
    Tokenizer,
    describe_thinker,
    is_thinker,
    load_thinker_parameters,
    stored_tokenizer,
    write_thinker,
)

_FORM = "released.json"
# What stands beside a released checkpoint for its tokenizer and its processor, and goes with the weights.
_COMPANIONS = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "added_tokens.json"),
    *("special_tokens_map.json", "chat_template.json", "chat_template.jinja", "generation_config.json"),
    *("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"),
)


class OpenedThinker(NamedTuple):
    """What a checkpoint says of a Thinker.

    Attributes:
      stored: the model, and how what it reads is laid out.
      form: the released form; None for one that came from no release.
      pads: the id that stands for a feature, for every kind that the model reads; empty where that is not known.
      tokenizer: what stands beside it, if anything.
    """

    stored: StoredThinker
    form: ThinkerForm | None
    pads: dict[Kind, int]
    tokenizer: Tokenizer | None

    def released_form(self, source: str) -> ThinkerForm:
        """The form that it came in, or that of its kind; raises CheckpointError where there is none."""
        return self.form or find_form(self.stored, self.tokenizer, source)


class ThinkerPlan(NamedTuple):
    """How to read the Thinker of a released checkpoint.

    Attributes:
      stored, form: what it is.
      rules: released name -> rule, for all that is read.
      not_loaded: released names that are left alone.
      language_model: the plan of that part.
    """

    stored: StoredThinker
    form: ThinkerForm
    rules: Mapping[str, Rule]
    not_loaded: tuple[str, ...]
    language_model: Plan


def open_thinker(
    paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None, shardings: Mapping[str, Any] | None = None
) -> tuple[OpenedThinker, dict[str, Any]]:
    """What it is, and the parameters of `thinker.Thinker`; arguments as those of `load.load_tensors`.

    `paths` are one Thinker of ours, or one or more released checkpoints; Talker and codec of a whole Qwen3-Omni are
    left alone. Raises CheckpointError with one line that names what is wrong.
    """
    first = Path(paths[0])
    if is_thinker(first):
        opened = describe_ours(paths)
        return opened, load_thinker_parameters(first, opened.stored.config, dtype=dtype, shardings=shardings)
    released = read_released(paths)
    plan = make_thinker_plan(released)
    require_equal_head(released, plan.language_model)
    tokenizer = stored_tokenizer(first)
    pads = read_pads(plan.form.config, plan.stored, f"{released.source}: config.json")
    parameters = load_tensors(released, plan.rules, dtype=dtype, shardings=shardings)
    return OpenedThinker(plan.stored, plan.form, pads, tokenizer), parameters


def make_thinker_plan(released: Released) -> ThinkerPlan:
    """Reads config.json and headers; no weights. Raises CheckpointError as `plan.make_plan`."""
    source = f"{released.source}: config.json"
    config = None if released.config is None else dict(thinker_part(released.config))
    released = Released(released.source, config, released.tensors, released.files)
    plan = make_plan(released)
    assert config is not None
    stored = read_thinker_config(config, source, plan.config)
    prefixes = {
        part: find_prefix(released.tensors, anchor, released.source)
        for part, anchor, encoder in (
            ("visual", VISION_ANCHOR, stored.config.vision),
            ("audio", AUDIO_ANCHOR, stored.config.audio),
        )
        if encoder is not None
    }
    form = ThinkerForm(plan.family, plan.layout, config=config, **prefixes)
    rules = form.rules(stored.config)
    unread = [name for name in plan.not_loaded if name not in rules]
    read = ("visual", "audio") if prefixes else ()
    require_tensors(released, rules, [name for name in unread if part_of(name) in read], plan.text)
    not_loaded = tuple(name for name in unread if part_of(name) not in read)
    return ThinkerPlan(stored, form.alone(), rules, not_loaded, plan)


def describe_ours(paths: Sequence[str | os.PathLike[str]]) -> OpenedThinker:
    """What a Thinker of ours says of itself; reads no weights. Raises CheckpointError as `open_thinker`."""
    directory = Path(paths[0])
    if len(paths) > 1:
        raise CheckpointError(f"{directory}: holds a whole Thinker: accepted is this one alone")
    stored, tokenizer = describe_thinker(directory), stored_tokenizer(directory)
    path = directory / _FORM
    form = ThinkerForm.from_json(read_json(path), str(path)) if path.is_file() else None
    pads = {}
    if form is not None:
        pads = read_pads(form.config, stored, str(path))
    elif tokenizer is not None:
        pads = {kind: tokenizer.special(PAD_OF[kind]) for kind in stored.kinds}
    return OpenedThinker(stored, form, pads, tokenizer)


def write_converted(
    directory: Path, opened: OpenedThinker, parameters: Mapping[str, Any], source: str | os.PathLike[str]
) -> None:
    """Writes a Thinker of ours into a directory that is there, its released form, and the files that stand beside the
    checkpoint `source`. Raises CheckpointError as `thinker.storage.save_thinker`.
    """
    write_thinker(directory, opened.stored, parameters, opened.tokenizer)
    copy_companions(source, directory)
    if opened.form is not None:
        write_json(directory / _FORM, opened.form.to_json())


def copy_companions(source: str | os.PathLike[str], directory: Path) -> None:
    """Copies the files of tokenizer and processor that stand beside a checkpoint."""
    for name in _COMPANIONS:
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, directory / name)
