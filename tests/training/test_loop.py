"""The loop: a run that is cut off and started again ends where an uninterrupted one does."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.training.checkpoint import Checkpoints, ConfigMismatchError
from qomni_jax.training.loop import train
from qomni_jax.training.metrics import MetricWriter, read_metrics
from qomni_jax.training.state import TrainState


class Killed(Exception):
    pass


def step_fn(state, batch):
    params = state.params * 0.9 + batch["x"]
    return TrainState(state.step + 1, params, state.opt_state + 1), {"loss": jnp.sum(params)}


def fresh():
    return TrainState(jnp.zeros((), jnp.int32), jnp.ones(3), jnp.zeros(2))


def loader(start, die_at=None):
    step = start
    while True:
        if step == die_at:
            raise Killed
        yield {"x": np.full(3, np.sin(step), np.float32)}
        step += 1


def run(directory, die_at=None, steps=20, **extra):
    checkpoints = Checkpoints(directory, {"lr": 0.1})
    state = train(
        fresh(),
        step_fn,
        lambda start: loader(start, die_at),
        steps=steps,
        checkpoints=checkpoints,
        log_every=5,
        checkpoint_every=4,
        report=lambda line: None,
        **extra,
    )
    checkpoints.close()
    return state


def test_killed_and_restarted_equals_uninterrupted(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "cut", die_at=13)
    resumed = run(tmp_path / "cut")
    np.testing.assert_array_equal(resumed.params, whole.params)
    np.testing.assert_array_equal(resumed.opt_state, whole.opt_state)
    assert [r["step"] for r in read_metrics(tmp_path / "cut")] == [5, 10, 15, 20]
    again = run(tmp_path / "cut", die_at=0)  # finished: no batch is asked for
    np.testing.assert_array_equal(again.params, whole.params)


def test_checkpoint_callback_sees_each_saved_step(tmp_path):
    seen = []
    run(tmp_path, after_checkpoint=lambda step, state: seen.append((step, int(state.step))))
    assert seen == [(4, 4), (8, 8), (12, 12), (16, 16), (20, 20)]


def test_checkpoint_callback_that_was_cut_off_is_called_again(tmp_path):
    seen = []

    def cut_off(step, state):
        raise Killed

    for last in (8, 20):
        with pytest.raises(Killed):
            run(tmp_path, after_checkpoint=lambda step, state, last=last: step < last or cut_off(step, state))
    run(tmp_path, after_checkpoint=lambda step, state: seen.append((step, int(state.step))))
    assert seen == [(20, 20)]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    def diverge(state, batch):
        state, metrics = step_fn(state, batch)
        return state, {"loss": jnp.where(state.step > 8, jnp.nan, metrics["loss"])}

    checkpoints = Checkpoints(tmp_path, {})
    with pytest.raises(FloatingPointError, match="step 10"):
        train(fresh(), diverge, loader, steps=20, checkpoints=checkpoints, log_every=5, checkpoint_every=4)
    assert checkpoints.latest_step() == 8


def test_another_configuration_is_refused_by_name(tmp_path):
    Checkpoints(tmp_path, {"optimizer": {"lr": 0.1}, "steps": 5}).close()
    with pytest.raises(ConfigMismatchError, match=r"optimizer\.lr = 0\.1, asked for is 0\.2"):
        Checkpoints(tmp_path, {"optimizer": {"lr": 0.2}, "steps": 5})


def test_a_missing_checkpoint_and_other_parameters_are_named(tmp_path):
    checkpoints = Checkpoints(tmp_path, {})
    with pytest.raises(ValueError, match="checkpoint None"):
        checkpoints.restore(fresh())
    checkpoints.save(3, fresh())
    with pytest.raises(ValueError, match="checkpoint 7"):
        checkpoints.restore(fresh(), 7)
    with pytest.raises(ValueError, match="checkpoint 3"):
        checkpoints.restore({"other": jnp.zeros(2)})


def test_metrics_after_the_restart_step_and_half_lines_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": s, "loss": 1.0}) + "\n" for s in (5, 10, 15)) + '{"step": 2')
    writer = MetricWriter(tmp_path, start_step=10)
    writer.write(15, {"loss": 0.5})
    writer.close()
    assert read_metrics(tmp_path) == [{"step": 5, "loss": 1.0}, {"step": 10, "loss": 1.0}, {"step": 15, "loss": 0.5}]


def test_a_metric_may_be_a_list(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(1, {"loss": 0.5, "router_load": [0.25, 0.75]})
    writer.close()
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5, "router_load": [0.25, 0.75]}]
