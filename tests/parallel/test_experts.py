"""Experts spread over devices: every dispatch gives what one device gives, and the ragged one's plan loses no row."""

import functools
import importlib.util
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.bench.llo import compile_in_child
from qomni_jax.config.decoder import FeedForwardConfig
from qomni_jax.layers.feed_forward import MixtureOfExperts
from qomni_jax.ops.moe import expert_mlp
from qomni_jax.parallel.experts import DISPATCHES, dispatch_experts
from qomni_jax.parallel.ragged import buffer_rows, exchange_plans, experts_of_arrivals
from tests.parallel.dispatch_cases import CASES, arguments, output_and_gradients


@pytest.fixture(scope="module", params=DISPATCHES)
def on_eight_devices(request, tmp_path_factory):
    """`case/number` -> array, of one dispatch."""
    path = str(tmp_path_factory.mktemp(request.param) / "arrays.npz")
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    command = [sys.executable, "-m", "tests.parallel.dispatch_cases", json.dumps([request.param, path])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(path)


@pytest.mark.multi
class TestDispatch:
    """All dispatches through the same cases. A CPU runs the ragged one with its exchange made of other collectives."""

    @pytest.mark.parametrize("case", CASES)
    def test_output_and_gradients_equal_one_device(self, on_eight_devices, case):
        expected = output_and_gradients(functools.partial(expert_mlp, backend="reference"), *arguments(**CASES[case]))
        for number, array in enumerate(expected):
            # float32 products in another order
            np.testing.assert_allclose(on_eight_devices[f"{case}/{number}"], array, atol=2e-5, rtol=2e-5)


def exchange(operands, outputs, plans):
    """The ragged all-to-all of all devices at once, in NumPy."""
    results = [output.copy() for output in outputs]
    for sender, (rows, plan) in enumerate(zip(operands, plans, strict=True)):
        for receiver in range(len(plans)):
            start, size, place = (int(a[receiver]) for a in (plan.input_offsets, plan.send_sizes, plan.output_offsets))
            assert size == plans[receiver].recv_sizes[sender]
            assert 0 <= start <= start + size <= len(rows)
            assert 0 <= place <= place + size <= len(outputs[receiver])
            results[receiver][place : place + size] = rows[start : start + size]
    return results


@pytest.mark.parametrize("capacity", [1, 5, 17, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_every_row_visits_its_expert_once_and_comes_home(seed, capacity):
    """Random routings in which experts, senders and receivers may have nothing."""
    rng = np.random.default_rng(seed)
    parts, local = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    counts = rng.integers(0, 8, (parts, parts * local)) * (rng.uniform(size=(parts, parts * local)) < 0.6)
    counts[:, rng.integers(0, parts * local)] = 0
    counts[rng.integers(0, parts)] = 0
    counts = counts.astype(np.int32)
    by_owner = counts.reshape(parts, parts, local)
    sizes = by_owner.sum(2)
    # A row is (sender, expert, its number); two more rows behind them belong to no expert.
    rows = [
        np.array([(i, e, n) for e in range(parts * local) for n in range(counts[i, e])] + [(i, -1, 0), (i, -1, 1)])
        for i in range(parts)
    ]
    home = [np.full_like(r, -9) for r in rows]
    visits = []
    for begin in range(0, max(1, sizes.sum(0).max()), capacity):
        plans = [exchange_plans(sizes, device, begin, capacity) for device in range(parts)]
        there, back = zip(*(jax.tree.map(np.asarray, plan) for plan in plans), strict=True)
        arrived = exchange(rows, [np.full((capacity, 3), -7)] * parts, there)
        for device, buffer in enumerate(arrived):
            expert = np.asarray(experts_of_arrivals(by_owner[:, device], begin, capacity))
            real = expert < local
            assert np.array_equal(real, buffer[:, 0] != -7)
            assert np.array_equal(device * local + expert[real], buffer[real, 1])
            visits += map(tuple, buffer[real])
        home = exchange(arrived, home, back)
    assert sorted(visits) == sorted(tuple(row) for r in rows for row in r[:-2])
    for before, after in zip(rows, home, strict=True):
        assert np.array_equal(after[:-2], before[:-2])
        assert np.all(after[-2:] == -9)


def test_the_buffer_is_no_larger_than_what_could_ever_arrive():
    assert buffer_rows(pairs=80, top_k=8, parts=4, local_experts=2, headroom=1.25) == 80  # 2 of 8 at most come here
    assert buffer_rows(pairs=80, top_k=8, parts=16, local_experts=8, headroom=1.25) == 100
    assert buffer_rows(pairs=2, top_k=2, parts=4, local_experts=8, headroom=0.01) == 1


def test_ragged_on_a_cpu_is_refused_and_nothing_runs_in_its_place():
    layer = MixtureOfExperts(FeedForwardConfig(dispatch="ragged"))
    with pytest.raises(ValueError, match=r"'ragged' on a CPU.*local, ring"):
        layer.init(jax.random.key(0), np.zeros((1, 2, 8), np.float32), np.ones((1, 2), np.float32))


@pytest.mark.parametrize("dispatch", ["ring", "ragged"])
def test_experts_that_the_axis_does_not_divide_are_named(dispatch):
    device = jax.sharding.AbstractDevice(device_kind="TPU v5", num_cores=2, platform="tpu")
    mesh = jax.sharding.AbstractMesh((4,), ("expert",), abstract_device=device)
    args = arguments(num_experts=6)
    with jax.sharding.use_abstract_mesh(mesh), pytest.raises(ValueError, match=rf"'{dispatch}': 6 experts.*size 4"):
        dispatch_experts(dispatch, expert_mlp, *args)


def test_an_unknown_dispatch_is_named_by_the_configuration_and_by_the_function():
    with pytest.raises(ValueError, match="dispatch = 'all': accepted is one of local, ragged, ring"):
        FeedForwardConfig(dispatch="all")
    with pytest.raises(ValueError, match="dispatch 'all': accepted is one of local, ring, ragged"):
        dispatch_experts("all", expert_mlp, *arguments())


@pytest.mark.aot
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the aot extra")
def test_a_layer_with_ragged_dispatch_compiles_for_a_tpu_forward_and_backward():
    target = "tests.parallel.dispatch_cases:compile_layer"
    result, _ = compile_in_child(target, {"topology": "v5e:2x4", "dispatch": "ragged"}, [])
    assert result["exchanges"] == 5  # there and back; rows and cotangents there, gradients back
