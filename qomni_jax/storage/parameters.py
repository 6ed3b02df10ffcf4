"""Parameters of a model on disk: an orbax checkpoint in the directory `parameters` of the model's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from qomni_jax.storage import blockwise
from qomni_jax.storage.arrays import flat, nested
from qomni_jax.storage.errors import CheckpointError, listing

_DIRECTORY = "parameters"
_UNREADABLE = (OSError, ValueError, KeyError, AttributeError)


def save_parameters(directory: Path, parameters: Mapping[str, Any]) -> None:
    """Writes the arrays of a tree below `directory`, one block at a time, from one process that sees all of them."""
    arrays = jax.tree.map(jnp.asarray, dict(parameters))
    with ocp.Checkpointer(blockwise.handler()) as checkpointer:
        checkpointer.save(directory.absolute() / _DIRECTORY, args=ocp.args.PyTreeSave(arrays))


def saved_arrays(directory: Path) -> dict[str, Any]:
    """Path of each array (`decoder/norm`) -> something with its `shape` and `dtype`; reads no weights.

    Raises CheckpointError where there is no such checkpoint.
    """
    with ocp.Checkpointer(blockwise.handler()) as checkpointer:
        try:
            return flat(checkpointer.metadata(directory.absolute() / _DIRECTORY).item_metadata.tree)
        except _UNREADABLE as error:
            raise _unreadable(directory, error) from None


def restore_parameters(
    directory: Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    part: str = "",
    dtype: Any = None,
    shardings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The tree of arrays that `save_parameters` wrote, one array at a time.

    Args:
      shapes: path -> shape of every array that is to be there, and no others.
      part: the name of a subtree, which alone is read and returned; all where it is empty.
      dtype: of all that is read; None keeps the types of the files.
      shardings: a tree like the one returned; None puts all on the first device.

    Raises CheckpointError where arrays are missing, extra, misshapen or damaged.
    """
    saved = saved_arrays(directory)
    require_shapes(str(directory), saved, shapes)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    start = f"{part}/" if part else ""
    places = flat(shardings, start) if shardings is not None else {}
    wanted = {path: meta for path, meta in saved.items() if path.startswith(start)}
    arguments = {
        path: ocp.ArrayRestoreArgs(dtype=dtype or meta.dtype, sharding=places.get(path, device))
        for path, meta in wanted.items()
    }
    args = ocp.args.PyTreeRestore(item=nested(wanted), restore_args=nested(arguments), partial_restore=True)
    with ocp.Checkpointer(blockwise.handler()) as checkpointer:
        try:
            found: dict[str, Any] = checkpointer.restore(directory.absolute() / _DIRECTORY, args=args)
        except _UNREADABLE as error:
            raise _unreadable(directory, error) from None
    return found[part] if part else found


def require_shapes(source: str, arrays: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises CheckpointError, naming them all, unless `arrays` are those of `shapes`, path by path."""
    problems = {
        "missing": sorted(shapes.keys() - arrays.keys()),
        "extra": sorted(arrays.keys() - shapes.keys()),
        "misshapen": [
            f"{path} {list(arrays[path].shape)} (accepted is {list(shape)})"
            for path, shape in shapes.items()
            if path in arrays and tuple(arrays[path].shape) != tuple(shape)
        ],
    }
    if any(problems.values()):
        raise CheckpointError(f"{source}: {listing(problems)}")


def _unreadable(directory: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{directory}: its parameters cannot be read ({str(error).splitlines()[0]})")
