"""The training loop: any jitted step, any iterator of batches."""

from collections.abc import Callable, Iterator
import resource
import time
from typing import Any, TypeVar

import jax
import numpy as np

from qomni_jax.training.checkpoint import Checkpoints
from qomni_jax.training.metrics import MetricWriter, Progress, read_metrics

State = TypeVar("State")
Batch = TypeVar("Batch")


def train(
    state: State,
    step_fn: Callable[[State, Batch], tuple[State, dict[str, Any]]],
    loader: Callable[[int], Iterator[Batch]],
    *,
    steps: int,
    checkpoints: Checkpoints,
    log_every: int,
    checkpoint_every: int,
    name: str = "train",
    report: Callable[[str], None] = print,
    after_checkpoint: Callable[[int, State], None] | None = None,
) -> State:
    """Runs `step_fn` until `steps` steps are taken, from the newest checkpoint if there is one.

    `loader(start)` yields the batches from step `start` on and must give the same batch for the same step each time:
    then a run that is killed and started again ends with the same parameters as one that was not. Metrics go to
    `metrics.jsonl` and TensorBoard in the checkpoints' directory, with `cpu_seconds` and `seconds` of training so far.
    `after_checkpoint(step, state)` is called after each checkpoint, and again for the one that a run goes on from: what
    it did may have been cut off. Its time does not count as training.

    Raises FloatingPointError naming the step when the loss is no longer finite; the last checkpoint stays.
    """
    start = checkpoints.latest_step() or 0
    if start:
        state = checkpoints.restore(state, min(start, steps))
        if after_checkpoint:
            after_checkpoint(min(start, steps), state)
    if start >= steps:
        return state
    if start:
        report(f"{name} continues at step {start}/{steps}")
    writer = MetricWriter(checkpoints.directory, start_step=start)
    seconds, cpu_seconds = _time_so_far(checkpoints, start)
    progress = Progress(name, steps, start)
    wall, cpu = time.monotonic(), time.process_time()
    batches = loader(start)
    try:
        for step in range(start + 1, steps + 1):
            state, metrics = step_fn(state, next(batches))
            if step % log_every == 0 or step == steps:
                values = {key: np.asarray(value).tolist() for key, value in jax.device_get(metrics).items()}
                if not np.isfinite(values["loss"]):
                    raise FloatingPointError(f"{name}: loss is {values['loss']} at step {step}")
                values["seconds"] = seconds + time.monotonic() - wall
                values["cpu_seconds"] = cpu_seconds + time.process_time() - cpu
                values["memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
                writer.write(step, values)
                report(progress.line(step, loss=values["loss"]))
            if step % checkpoint_every == 0 or step == steps:
                paused = time.monotonic(), time.process_time()
                checkpoints.save(step, state)
                if after_checkpoint:
                    after_checkpoint(step, state)
                wall += time.monotonic() - paused[0]
                cpu += time.process_time() - paused[1]
    finally:
        writer.close()
        close = getattr(batches, "close", None)
        if close:
            close()
    return state


def _time_so_far(checkpoints: Checkpoints, start: int) -> tuple[float, float]:
    records = [record for record in read_metrics(checkpoints.directory) if record["step"] <= start]
    return (records[-1]["seconds"], records[-1]["cpu_seconds"]) if records else (0.0, 0.0)
