"""Routing and the two forms of the expert product."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.ops.moe import expert_mlp, route
from qomni_jax.ops.moe.router import load_balancing_loss

product = jax.jit(expert_mlp, static_argnames=("backend", "block_size"))


@functools.partial(jax.jit, static_argnames=("backend", "block_size"))
def product_and_gradients(x, chosen, weights, gate_up, down, **options):
    def loss(x, weights, gate_up, down):
        y = expert_mlp(x, chosen, weights, gate_up, down, **options)
        return jnp.sum(jnp.sin(y)), y

    return jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(x, weights, gate_up, down)


def experts(tokens: int, num_experts: int, top_k: int):
    rng = np.random.default_rng(tokens)
    normal = functools.partial(rng.standard_normal, dtype=np.float32)
    routing = jax.jit(route, static_argnums=1)(3 * normal((tokens, num_experts)), top_k, np.ones(tokens, np.float32))
    gate_up, down = normal((num_experts, 6, 10)) / np.float32(6**0.5), normal((num_experts, 5, 6)) / np.float32(5**0.5)
    return normal((tokens, 6)), routing, gate_up, down


@pytest.mark.parametrize(("tokens", "num_experts", "top_k"), [(1, 8, 2), (7, 3, 3), (100, 8, 2), (64, 5, 1)])
@pytest.mark.parametrize("block_size", [1, 16])
def test_blocked_product_equals_every_expert_on_every_token(tokens, num_experts, top_k, block_size):
    x, routing, gate_up, down = experts(tokens, num_experts, top_k)
    args = (x, routing.experts, routing.weights, gate_up, down)
    blocked = product_and_gradients(*args, backend="xla", block_size=block_size)
    dense = product_and_gradients(*args, backend="reference")
    for a, b in zip(jax.tree.leaves(blocked), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-4, rtol=1e-4)  # float32 products in another order


def test_all_tokens_on_one_expert_are_kept():
    x, _, gate_up, down = experts(50, 4, 2)
    chosen = np.full((50, 2), 3)
    weights = np.full((50, 2), 0.5, np.float32)
    dense = product(x, chosen, weights, gate_up, down, backend="reference")
    np.testing.assert_allclose(product(x, chosen, weights, gate_up, down), dense, atol=3e-4, rtol=1e-4)


def test_router_renormalises_and_counts_masked_tokens_alone():
    logits = jnp.array([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 5.0, 5.0]])
    routing = route(logits, 2, jnp.array([1, 0]))
    np.testing.assert_allclose(routing.weights.sum(-1), 1.0, rtol=1e-6)
    assert routing.experts[0].tolist() == [0, 1]
    assert routing.chosen.tolist() == [1, 1, 0, 0]
    assert float(routing.tokens) == 1.0


def test_balanced_load_gives_a_loss_of_k():
    chosen, probability = jnp.full(4, 50.0), jnp.full(4, 25.0)  # 100 tokens, k = 2
    assert float(load_balancing_loss(chosen, probability, jnp.array(100.0))) == pytest.approx(2.0)


def test_unknown_backend_is_named():
    x, routing, gate_up, down = experts(4, 4, 2)
    with pytest.raises(ValueError, match="'dense'"):
        expert_mlp(x, routing.experts, routing.weights, gate_up, down, backend="dense")
