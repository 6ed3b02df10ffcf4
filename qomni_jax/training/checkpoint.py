"""Training state on disk (orbax), bound to the configuration that made it."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class ConfigMismatchError(ValueError):
    """A directory holds the work of another configuration."""


class Checkpoints:
    """The checkpoints of one run.

    The configuration is written beside them; opening the directory with another one is an error that names the first
    field that differs. A checkpoint is whole or absent: orbax commits it by a rename.
    """

    def __init__(self, directory: str | os.PathLike[str], config: dict[str, Any], *, keep: int = 2):
        self.directory = Path(directory).absolute()
        bind_config(self.directory, config)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.directory / "checkpoints", options=options)

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, None when there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Writes `state` (a pytree of arrays) as the checkpoint of `step`, once."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(_as_dict(state)))

    def restore(self, like: Any, step: int | None = None) -> Any:
        """The state saved at `step` (default: the newest), in the structure and placement of `like`.

        Raises ValueError when there is no such checkpoint, or when it has other parameters than `like`.
        """
        step = self.latest_step() if step is None else step
        if step is None or step not in self._manager.all_steps():
            steps = ", ".join(map(str, self._manager.all_steps())) or "none"
            raise ValueError(f"checkpoint {step} in {self.directory}: accepted is a saved step ({steps})")
        try:
            restored = self._manager.restore(step, args=ocp.args.StandardRestore(_as_dict(like)))
        except (ValueError, KeyError, FileNotFoundError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"checkpoint {step} in {self.directory} does not hold what is asked for: {reason}"
            ) from None
        return jax.tree.unflatten(jax.tree.structure(like), [restored[name] for name in _as_dict(like)])

    def close(self) -> None:
        """Waits for writes to end."""
        self._manager.close()


def bind_config(directory: Path, config: dict[str, Any]) -> None:
    """Writes `config` to `directory/config.json`, or checks that the one there is equal.

    Raises ConfigMismatchError naming the first field that differs, both values and what to do.
    """
    path = directory / "config.json"
    config = json.loads(json.dumps(config))
    if path.exists():
        difference = _first_difference(json.loads(path.read_text()), config)
        if difference:
            field, old, new = difference
            raise ConfigMismatchError(
                f"{directory} was made with {field} = {old!r}, asked for is {new!r}: accepted is the same value, or "
                "another workdir"
            )
        return
    directory.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(config, indent=1))
    os.replace(temporary, path)


def _as_dict(state: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _first_difference(old: Any, new: Any, name: str = "") -> tuple[str, Any, Any] | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            found = _first_difference(old.get(key), new.get(key), f"{name}.{key}" if name else key)
            if found:
                return found
        return None
    return None if old == new else (name, old, new)
