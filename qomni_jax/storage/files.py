"""Files of a checkpoint, and directories that are whole or absent."""

from collections.abc import Iterator
import contextlib
import json
import os
from pathlib import Path
import shutil
from typing import Any

from qomni_jax.storage.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises CheckpointError with the path when it is absent or not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: accepted is a JSON object")
    return value


def write_json(path: Path, value: Any) -> None:
    """Writes JSON for people to read as well."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


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
