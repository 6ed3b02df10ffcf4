"""The Pallas kernels: the shared cases in interpret mode, the fused prefill, what the TPU compiler makes of them."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench.gated_delta_rule_aot import CHUNK, HERE, KERNELS, error_rows
from experiments.bench.llo import compile_in_child, parse_utilization
from qomni_jax.ops.conv import causal_depthwise_conv
from qomni_jax.ops.gated_delta_rule.pallas_tpu import MAX_HEADS, gated_delta_rule_fused
from qomni_jax.ops.norms import l2_normalize
from tests.ops.gated_delta_rule_cases import GatedDeltaRuleCases, recurrence, relative_error


class TestPallasTpu(GatedDeltaRuleCases):
    backend = "pallas_tpu"


def test_fused_prefill_is_convolution_norm_gates_and_rule_one_after_another():
    """Segment borders fall inside a chunk, two tokens before its end (the convolution reaches over) and beyond."""
    rng = np.random.default_rng(0)
    steps, key_heads, heads, dim = 70, 2, 4, 128
    channels = (2 * key_heads + heads) * dim
    mixed = rng.normal(size=(1, steps, channels)).astype(np.float32)
    weight = (0.5 * rng.normal(size=(4, channels))).astype(np.float32)
    past = rng.normal(size=(1, 3, channels)).astype(np.float32)
    a, b = rng.normal(size=(2, 1, steps, heads)).astype(np.float32)
    a_log, dt_bias = rng.normal(size=(2, heads)).astype(np.float32)
    state = rng.normal(size=(1, heads, dim, dim)).astype(np.float32)
    segments = np.repeat([0, 1, 2, 3], [20, 42, 4, 4])[None]

    fused = jax.jit(
        functools.partial(
            gated_delta_rule_fused,
            segment_ids=jnp.asarray(segments),
            key_heads=key_heads,
            value_heads=heads,
            key_dim=dim,
        )
    )
    o, last = fused(mixed, weight, a, b, a_log, dt_bias, past, state)
    convolved, _ = causal_depthwise_conv(*map(jnp.asarray, (mixed, weight, past, segments)))
    y = jax.nn.silu(convolved)
    y = y.reshape(1, steps, -1, dim)
    q, k = (l2_normalize(y[:, :, i * key_heads : (i + 1) * key_heads]) for i in range(2))
    g = -np.exp(a_log) * jax.nn.softplus(a + dt_bias)
    expected, expected_last = recurrence(q, k, y[:, :, 2 * key_heads :], g, jax.nn.sigmoid(b), state, segments)
    assert relative_error(o, expected) < 2e-6  # float32, sums of 64 tokens reordered
    assert relative_error(last, expected_last) < 2e-6


def test_bfloat16_keeps_outputs_and_gate_gradients_on_correlated_keys():
    for row in error_rows(steps=128, heads=4):
        assert row["ours"] < row["target"], row["case"]


def test_fused_prefill_names_heads_that_do_not_fit():
    x = jnp.zeros((1, 4, 3 * 64))
    gate, head, state = jnp.zeros((1, 4, 1)), jnp.zeros(1), jnp.zeros((1, 1, 64, 64))
    with pytest.raises(ValueError, match=r"1 key heads of 64.*multiples of 128"):
        gated_delta_rule_fused(
            x, jnp.zeros((4, 192)), gate, gate, head, head, x[:, :3], state, key_heads=1, value_heads=1, key_dim=64
        )


def test_static_schedules_are_read_by_unit():
    text = "== CAPACITY:\nMXU, VSTORE:SPILL\n 4 1\n== UTILIZATION:\n4 0\n0 1\n"
    assert parse_utilization(text) == (2, {"MXU": 0.5, "VSTORE:SPILL": 0.5})
    with pytest.raises(ValueError, match="another length"):
        parse_utilization(text + "1 2 3\n")


@pytest.mark.aot
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the aot extra")
@pytest.mark.parametrize(
    ("generation", "direction", "key_heads", "heads", "steps", "limit"),
    [
        ("v5e", "bwd", 16, 16, 4096, 8.0),
        ("v5p", "bwd", 16, 32, 1 << 18, 8.0),
        ("v6e", "fused", 32, 64, 4096, 6.5),
    ],
)
def test_kernels_compile_for_tpus_within_their_bundles(generation, direction, key_heads, heads, steps, limit):
    arguments = {"generation": generation, "direction": direction, "key_heads": key_heads, "heads": heads}
    _, costs = compile_in_child(f"{HERE}:compile_on", arguments | {"steps": steps}, KERNELS[direction])
    assert costs[KERNELS[direction][-1]].bundles / (CHUNK * min(heads, MAX_HEADS)) < limit
