"""A codec on disk: `config.json` beside orbax parameters, written whole or not at all."""

import dataclasses
import json
import os
from pathlib import Path
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from qomni_jax.config.codec import CodecConfig, LogMelConfig, RVQConfig, VocoderConfig

_FORMAT = "qomni_jax.codec.1"
_PARTS = {"log_mel": LogMelConfig, "rvq": RVQConfig, "vocoder": VocoderConfig}


def write(directory: str | os.PathLike, config: CodecConfig, params: Any) -> None:
    """Writes a codec into `directory`, replacing the codec that is there.

    Raises:
      FileExistsError: the directory holds something other than a codec.
    """
    target = Path(directory).absolute()
    if target.exists() and not (target / "config.json").is_file() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target}: accepted is a new or empty directory, or one that holds a codec")
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(partial / "params", _as_arrays(params))
    text = json.dumps({"format": _FORMAT, **dataclasses.asdict(config)}, indent=2)
    (partial / "config.json").write_text(text + "\n", encoding="utf-8")
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)


def read_config(directory: str | os.PathLike, expected: CodecConfig | None = None) -> CodecConfig:
    """Config of the codec in `directory`.

    Raises:
      FileNotFoundError: the directory holds no codec.
      ValueError: its config is damaged, or differs from `expected` (the first differing field is named).
    """
    path = Path(directory) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{directory}: accepted is a directory written by Codec.save, with config.json in it")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        found = fields.pop("format", None)
        if found != _FORMAT:
            raise ValueError(f"format {found!r}: accepted is {_FORMAT!r}")
        config = CodecConfig(**{name: _PARTS[name](**values) for name, values in fields.items()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a codec config: {error}") from error
    if expected is not None:
        _require_equal(config, expected, path)
    return config


def read_params(directory: str | os.PathLike, template: Any) -> Any:
    """Parameters of the codec in `directory`, with the structure and shapes of `template`.

    Raises:
      ValueError: they are missing or of other shapes.
    """
    path = Path(directory).absolute() / "params"
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            # Orbax would cut or pad an array of another shape without a word.
            stored = jax.tree.map(lambda leaf: tuple(leaf.shape), checkpointer.metadata(path).item_metadata.tree)
            _require_shapes(stored, template)
            return checkpointer.restore(path, template)
    except (ValueError, KeyError, OSError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} does not hold the parameters of its config.json: {reason}") from error


def _require_shapes(stored: Any, template: Any) -> None:
    shapes = _shapes(stored), _shapes(jax.tree.map(lambda leaf: leaf.shape, template))
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        found, wanted = (side.get(name, "none") for side in shapes)
        if found != wanted:
            raise ValueError(f"{name} has shape {found}: accepted is {wanted}")


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: isinstance(node, tuple))
    return {"/".join(key.key for key in keys): shape for keys, shape in leaves}


def _require_equal(config: CodecConfig, expected: CodecConfig, path: Path) -> None:
    for part in _PARTS:
        for name, value in dataclasses.asdict(getattr(config, part)).items():
            wanted = getattr(getattr(expected, part), name)
            if value != wanted:
                raise ValueError(f"{path}: {part}.{name} = {value!r}: accepted is {wanted!r}")


def _as_arrays(params: Any) -> Any:
    if isinstance(params, dict):
        return {name: _as_arrays(value) for name, value in params.items()}
    return np.asarray(params)
