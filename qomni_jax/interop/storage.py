"""Our own checkpoint of a language model: a directory with config.json and the parameters as an orbax checkpoint."""

from collections.abc import Mapping
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.from_json import from_json
from qomni_jax.interop.families import FAMILIES, Family
from qomni_jax.interop.key_map import Layout, key_map, leaf_shapes
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.storage.files import new_directory, read_json, write_json
from qomni_jax.storage.parameters import restore_parameters, save_parameters

FORMAT = "qomni_jax language model 1"


class Description(NamedTuple):
    """The config.json of our checkpoint.

    Attributes:
      family, layout: the released form that it came from and that `export` writes.
      config: of the `LanguageModel`.
      text: the released config.json of the language model.
    """

    family: Family
    layout: Layout
    config: LanguageModelConfig
    text: dict[str, Any]


def is_converted(path: Path) -> bool:
    """Whether a directory is one of ours."""
    return (path / "config.json").is_file() and read_json(path / "config.json").get("format") == FORMAT


def save(path: Path, description: Description, parameters: Mapping[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all; raises CheckpointError when there is something at `path`."""
    with new_directory(path) as directory:
        save_parameters(directory, parameters)
        text = {
            "format": FORMAT,
            "family": description.family.name,
            "layout": description.layout._asdict(),
            "language_model": dataclasses.asdict(description.config),
            "released": description.text,
        }
        write_json(directory / "config.json", text)


def describe(path: Path) -> Description:
    """Reads the config.json of our checkpoint; raises CheckpointError when it is not what `save` wrote."""
    text = read_json(path / "config.json")
    try:
        family = next(family for family in FAMILIES if family.name == text["family"])
        config = from_json(LanguageModelConfig, text["language_model"])
        return Description(family, Layout(**text["layout"]), config, text["released"])
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise CheckpointError(f"{path / 'config.json'}: not the config of a converted checkpoint ({error})") from None


def restore(
    path: Path, description: Description, *, dtype: Any = None, shardings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The parameters of our checkpoint, one array at a time; arguments as those of `load.load_parameters`."""
    shapes = leaf_shapes(key_map(description.config, description.family, description.layout))
    return restore_parameters(path, shapes, dtype=dtype, shardings=shardings)
