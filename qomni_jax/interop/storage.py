"""Our own checkpoint of a language model: a directory with config.json and the parameters as an orbax checkpoint."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import shutil
import types
import typing
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.interop import blockwise
from qomni_jax.interop.arrays import flat, nested, require_complete
from qomni_jax.interop.errors import CheckpointError
from qomni_jax.interop.families import FAMILIES, Family
from qomni_jax.interop.key_map import Layout, key_map
from qomni_jax.interop.released import read_json

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
        with ocp.Checkpointer(blockwise.handler()) as checkpointer:
            checkpointer.save(directory.absolute() / "parameters", args=ocp.args.PyTreeSave(dict(parameters)))
        text = {
            "format": FORMAT,
            "family": description.family.name,
            "layout": description.layout._asdict(),
            "language_model": dataclasses.asdict(description.config),
            "released": description.text,
        }
        (directory / "config.json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def describe(path: Path) -> Description:
    """Reads the config.json of our checkpoint; raises CheckpointError when it is not what `save` wrote."""
    text = read_json(path / "config.json")
    try:
        family = next(family for family in FAMILIES if family.name == text["family"])
        config = _build(LanguageModelConfig, text["language_model"])
        return Description(family, Layout(**text["layout"]), config, text["released"])
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise CheckpointError(f"{path / 'config.json'}: not the config of a converted checkpoint ({error})") from None


def restore(
    path: Path, description: Description, *, dtype: Any = None, shardings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The parameters of our checkpoint, one array at a time; arguments as those of `load.load_parameters`."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    places = flat(shardings) if shardings is not None else {}
    directory = path.absolute() / "parameters"
    with ocp.Checkpointer(blockwise.handler()) as checkpointer:
        try:
            saved = flat(checkpointer.metadata(directory).item_metadata.tree)
            require_complete(str(path), saved, key_map(description.config, description.family, description.layout))
            wanted = {
                leaf: ocp.ArrayRestoreArgs(dtype=dtype or meta.dtype, sharding=places.get(leaf, device))
                for leaf, meta in saved.items()
            }
            arguments = ocp.args.PyTreeRestore(item=nested(saved), restore_args=nested(wanted))
            found: dict[str, Any] = checkpointer.restore(directory, args=arguments)
        except CheckpointError:
            raise
        except (OSError, ValueError, KeyError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{path}: its parameters cannot be read ({reason})") from None
    return found


def require_new(path: Path) -> None:
    """Raises CheckpointError when there is something at `path`."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise CheckpointError(f"{path}: exists: accepted is the name of a new directory")


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory to fill that takes the name `path` once it is complete, and vanishes when something fails.

    Raises CheckpointError when there is something at `path`.
    """
    require_new(path)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _build(kind: Any, value: Any) -> Any:
    """Dataclasses and tuples out of what JSON keeps of them."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        unknown = value.keys() - hints.keys()
        if unknown:
            raise ValueError(f"unknown field {min(unknown)}")
        return kind(**{name: _build(hints[name], item) for name, item in value.items()})
    if isinstance(kind, types.UnionType) and value is not None:
        return _build(next(option for option in kind.__args__ if option is not type(None)), value)
    return tuple(value) if typing.get_origin(kind) is tuple else value
