"""A language model out of any checkpoint that we read: a released one, or our own of it or of a Thinker."""

from collections.abc import Callable, Mapping, Sequence
import os
from pathlib import Path
from typing import Any

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.interop import storage
from qomni_jax.interop.families import parse_config
from qomni_jax.interop.load import load_parameters
from qomni_jax.interop.plan import make_plan
from qomni_jax.interop.released import read_released
from qomni_jax.interop.storage import Description
from qomni_jax.interop.thinker_config import find_form
from qomni_jax.interop.thinker_model import OpenedThinker, describe_ours
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.thinker.storage import is_thinker, load_thinker_parameters

Shardings = Callable[[LanguageModelConfig], Mapping[str, Any]]


def open_language_model(
    paths: Sequence[str | os.PathLike[str]], *, dtype: Any = None, shardings: Shardings | None = None
) -> tuple[Description, dict[str, Any]]:
    """The description and the parameters of `LanguageModel(description.config)`.

    Args:
      paths: one checkpoint of ours, a language model or a Thinker, whose other parts are left alone; or one or more
        released ones (see `released.read_released`).
      dtype: of all parameters; None keeps the types of the files.
      shardings: from the config to a tree of shardings like the parameters; None puts all on the first device.

    Raises CheckpointError with one line that names what is wrong.
    """
    first = Path(paths[0])
    if storage.is_converted(first):
        if len(paths) > 1:
            raise CheckpointError(f"{first}: a converted checkpoint is complete: accepted is this one alone")
        description = storage.describe(first)
        places = None if shardings is None else shardings(description.config)
        return description, storage.restore(first, description, dtype=dtype, shardings=places)
    if is_thinker(first):
        return _open_part(describe_ours(paths), first, dtype, shardings)
    released = read_released(paths)
    plan = make_plan(released)
    places = None if shardings is None else shardings(plan.config)
    parameters = load_parameters(released, plan, dtype=dtype, shardings=places)
    return Description(plan.family, plan.layout._replace(prefix="model."), plan.config, plan.text), parameters


def _open_part(
    opened: OpenedThinker, path: Path, dtype: Any, shardings: Shardings | None
) -> tuple[Description, dict[str, Any]]:
    """The language model of a Thinker of ours."""
    config = opened.stored.config.language_model
    form, text = opened.form, {}
    if form is not None:
        text = parse_config(form.config, str(path)).text
    else:
        form = find_form(opened.stored._replace(config=ThinkerConfig(config)), opened.tokenizer, str(path))
    places = None if shardings is None else {"language_model": shardings(config)}
    parameters = load_thinker_parameters(
        path, opened.stored.config, part="language_model", dtype=dtype, shardings=places
    )
    return Description(form.family, form.layout._replace(prefix="model."), config, text), parameters
