"""Checkpoints of a codec training run (orbax), bound to the configuration that wrote them."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp

from qomni_jax.config.codec import CodecConfig, CodecTrainingConfig

# How often a run is logged and saved does not change its result.
_FREE_FIELDS = ("checkpoint_every", "log_every")


class Checkpoints:
    """Latest training state of one run in a directory."""

    def __init__(self, workdir: str | os.PathLike, config: CodecConfig, training: CodecTrainingConfig):
        """Opens or creates the directory.

        Raises:
          ValueError: the directory belongs to a run with another configuration (the first differing field is named).
        """
        root = Path(workdir).absolute()
        wanted = {"codec": dataclasses.asdict(config), "training": dataclasses.asdict(training)}
        for field in _FREE_FIELDS:
            wanted["training"].pop(field)
        path = root / "run.json"
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{path} is not the configuration of a codec run: {error}") from error
            _require_equal(found, wanted, path, "")
        else:
            root.mkdir(parents=True, exist_ok=True)
            partial = root / "run.json.partial"
            partial.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
            partial.rename(path)
        self._root = root

    def save(self, step: int, params: Any, opt_state: Any, history: list[dict[str, float]]) -> None:
        """Writes the state after `step` steps; older ones are then removed."""
        with self._manager() as manager:
            state = {"params": params, "opt_state": jax.tree.leaves(opt_state)}
            items = ocp.args.Composite(
                state=ocp.args.StandardSave(jax.tree.map(np.asarray, state)), history=ocp.args.JsonSave(history)
            )
            manager.save(step, args=items)

    def restore(
        self, params: Any, optimizer: optax.GradientTransformation
    ) -> tuple[int, list[dict[str, float]], Any, Any] | None:
        """Latest `(step, history, params, opt_state)`, or None when the run has saved nothing."""
        opt_state = jax.eval_shape(optimizer.init, params)
        template = {"params": params, "opt_state": jax.tree.leaves(opt_state)}
        with self._manager() as manager:
            step = manager.latest_step()
            if step is None:
                return None
            template = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template)
            items = ocp.args.Composite(state=ocp.args.StandardRestore(template), history=ocp.args.JsonRestore())
            restored = manager.restore(step, args=items)
        state = jax.tree.map(jax.numpy.asarray, restored.state)
        return (
            step,
            restored.history,
            state["params"],
            jax.tree.unflatten(jax.tree.structure(opt_state), state["opt_state"]),
        )

    def _manager(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True, enable_async_checkpointing=False)
        return ocp.CheckpointManager(self._root / "steps", options=options)


def _require_equal(found: Any, wanted: Any, path: Path, name: str) -> None:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            _require_equal(found.get(key), wanted.get(key), path, f"{name}.{key}" if name else key)
    elif found != wanted:
        raise ValueError(f"{path}: {name} = {found!r}: accepted is {wanted!r}, or another work directory")
