"""The Gated DeltaNet mixer: its prefill in one kernel gives what its parts give."""

import dataclasses

import jax
import numpy as np
import pytest

from qomni_jax.config.decoder import GatedDeltaNetConfig
from qomni_jax.layers.gated_delta_net import GatedDeltaNet, GatedDeltaNetCache
from qomni_jax.layers.linear import unbox

PARTS = GatedDeltaNetConfig(
    num_key_heads=1, num_value_heads=2, head_key_dim=128, head_value_dim=128, chunk_size=64, backend="xla"
)
FUSED = dataclasses.replace(PARTS, backend="pallas_tpu")
DIM, ROWS, STEPS = 24, 2, 70


@pytest.fixture(scope="module")
def setting():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, STEPS, DIM), np.float32)
    variables = unbox(jax.jit(GatedDeltaNet(PARTS, DIM).init)(jax.random.key(0), x[:, :2]))
    conv = rng.standard_normal((ROWS, 3, PARTS.conv_channels), np.float32)
    state = rng.standard_normal((ROWS, 2, 128, 128), np.float32)
    return variables, x, GatedDeltaNetCache(conv, state)


def applied(config, *args):
    return jax.jit(GatedDeltaNet(config, DIM).apply)(*args)


def mask(*bounds: tuple[int, int]) -> np.ndarray:
    at = np.arange(STEPS)
    return np.stack([(at >= low) & (at < high) for low, high in bounds]).astype(np.float32)


@pytest.mark.parametrize(
    ("segments", "real"),
    [
        (None, None),
        (np.stack([np.repeat([0, 1, 2], [20, 42, 8]), np.repeat([0, 1, 2], [1, 63, 6])]), None),
        (None, mask((0, 65), (3, 70))),
        (None, mask((0, 2), (0, 0))),
    ],
    ids=["a cache", "segments", "padding on either side", "hardly a token"],
)
def test_fused_prefill_equals_its_parts(setting, segments, real):
    variables, x, cache = setting
    expected, expected_cache = applied(PARTS, variables, x, cache, segments, real)
    out, new_cache = applied(FUSED, variables, x, cache, segments, real)
    where = np.ones((ROWS, STEPS), bool) if real is None else real > 0
    # float32 sums of up to 128 products in another order
    np.testing.assert_allclose(np.asarray(out)[where], np.asarray(expected)[where], atol=2e-5, rtol=2e-5)
    np.testing.assert_array_equal(new_cache.conv, expected_cache.conv)
    np.testing.assert_allclose(new_cache.state, expected_cache.state, atol=2e-5, rtol=2e-5)


def kernels(config, *args) -> set[str]:
    text = str(jax.make_jaxpr(GatedDeltaNet(config, DIM).apply)(*args))
    return {name for name in ("fused", "forward", "backward") if f"gated_delta_rule_{name}" in text}


def test_the_kernel_is_taken_for_a_prefill_whose_heads_fit_and_for_nothing_else(setting):
    variables, x, cache = setting
    assert kernels(FUSED, variables, x, cache) == {"fused"}
    assert kernels(FUSED, variables, x) == {"forward"}  # no cache: training or scoring
    assert kernels(PARTS, variables, x, cache) == set()
    small = dataclasses.replace(FUSED, head_key_dim=16, head_value_dim=16)
    variables = unbox(jax.jit(GatedDeltaNet(small, DIM).init)(jax.random.key(0), x[:, :2]))
    cache = GatedDeltaNetCache(np.zeros((ROWS, 3, small.conv_channels)), np.zeros((ROWS, 2, 16, 16)))
    assert kernels(small, variables, x, cache) == {"forward"}


def test_a_gradient_through_a_prefill_is_that_of_its_parts(setting):
    variables, x, cache = setting

    def gradients(config):
        def loss(variables, x, cache):
            out, after = GatedDeltaNet(config, DIM).apply(variables, x, cache, None, mask((0, 65), (3, 70)))
            return np.float32(0.1) * (out[:, 3:65] ** 2).sum() + after.state.sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(variables, x, cache)

    expected = jax.tree.leaves(gradients(PARTS))
    for ours, theirs in zip(jax.tree.leaves(gradients(FUSED)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max(), rtol=1e-4)
