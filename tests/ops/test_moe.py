"""Routing, and every form of the expert product against the contract."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.config.decoder import FeedForwardConfig
from qomni_jax.ops.moe import BACKENDS, expert_mlp, load_balancing_loss, pooled_load_balancing_loss, route
from qomni_jax.ops.moe.router import router_metrics

DIM, INNER = 6, 5
CASES = {
    # tokens, experts, top_k, block_size
    "one token": (1, 8, 2, 16),
    "few rows, odd tiles": (7, 3, 3, 4),
    "decoding a batch": (9, 16, 4, 32),
    "tokens not a multiple of the block": (101, 4, 2, 6),
    "large and small blocks": (300, 3, 2, 16),
    "blocks of one row": (40, 4, 2, 1),
    "one expert a token": (64, 5, 1, 8),
}


@functools.partial(jax.jit, static_argnames=("backend", "block_size"))
def product_and_gradients(x, chosen, weights, gate_up, down, **options):
    def loss(x, weights, gate_up, down):
        y = expert_mlp(x, chosen, weights, gate_up, down, **options)
        return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

    return jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(x, weights, gate_up, down)


product = jax.jit(expert_mlp, static_argnames=("backend", "block_size"))


def inputs(tokens: int, num_experts: int, top_k: int, dim: int = DIM, inner: int = INNER, dtype=np.float32):
    rng = np.random.default_rng(tokens)
    normal = functools.partial(rng.standard_normal, dtype=np.float32)
    chosen = np.argsort(normal((tokens, num_experts)), axis=1)[:, :top_k].astype(np.int32)
    weights = rng.uniform(0.1, 1.0, (tokens, top_k)).astype(np.float32)
    gate_up = normal((num_experts, dim, 2 * inner)) / np.float32(dim**0.5)
    down = normal((num_experts, inner, dim)) / np.float32(inner**0.5)
    return np.asarray(normal((tokens, dim)), dtype), chosen, weights, gate_up.astype(dtype), down.astype(dtype)


def assert_like_the_contract(backend: str, args, block_size: int, atol: float, rtol: float):
    for ours, theirs in zip(
        jax.tree.leaves(product_and_gradients(*args, backend=backend, block_size=block_size)),
        jax.tree.leaves(product_and_gradients(*args, backend="reference", block_size=block_size)),
        strict=True,
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(np.asarray(ours, np.float32), np.asarray(theirs, np.float32), atol=atol, rtol=rtol)


@pytest.mark.parametrize("backend", sorted(set(BACKENDS) - {"reference"}))
class TestExpertProduct:
    """Output and gradients of x, weights and both matrices, all backends through the same cases."""

    @pytest.mark.parametrize("case", CASES)
    def test_equals_every_expert_on_every_token(self, backend, case):
        *shape, block_size = CASES[case]
        # float32 products in another order
        assert_like_the_contract(backend, inputs(*shape), block_size, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("tokens", [2, 50])
    def test_all_tokens_on_one_expert_leave_the_others_without_gradient(self, backend, tokens):
        x, _, weights, gate_up, down = inputs(tokens, 4, 1)
        args = x, np.full((tokens, 1), 2, np.int32), weights, gate_up, down
        assert_like_the_contract(backend, args, 8, atol=1e-4, rtol=1e-4)
        (_, _, dgate_up, ddown), _ = product_and_gradients(*args, backend=backend, block_size=8)
        for gradient in (dgate_up, ddown):
            assert not np.any(np.asarray(gradient)[[0, 1, 3]])
            assert np.all(np.any(np.asarray(gradient)[2], axis=(0, 1)))

    @pytest.mark.parametrize("tokens", [3, 80])
    def test_an_expert_twice_for_one_token_counts_twice(self, backend, tokens):
        x, _, weights, gate_up, down = inputs(tokens, 3, 2)
        chosen = np.stack([np.arange(tokens) % 3, np.arange(tokens) % 2], axis=1).astype(np.int32)
        assert_like_the_contract(backend, (x, chosen, weights, gate_up, down), 4, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("tokens", [1, 6, 90])
    def test_a_pair_without_an_expert_adds_nothing(self, backend, tokens):
        x, chosen, weights, gate_up, down = inputs(tokens, 4, 2)
        without = np.random.default_rng(1).uniform(size=chosen.shape) < 0.4
        without[0] = True  # a token that no expert sees
        args = x, np.where(without, 4, chosen).astype(np.int32), weights, gate_up, down
        assert_like_the_contract(backend, args, 8, atol=1e-4, rtol=1e-4)
        masked = x, chosen, np.where(without, 0, weights).astype(np.float32), gate_up, down
        y = product(*args, backend=backend, block_size=8)
        np.testing.assert_allclose(y, product(*masked, backend="reference"), atol=1e-4)
        (_, d_weights, _, _), _ = product_and_gradients(*args, backend=backend, block_size=8)
        assert not np.any(np.asarray(d_weights)[without])

    @pytest.mark.parametrize("tokens", [5, 90])
    def test_bfloat16_sums_in_float32(self, backend, tokens):
        args = inputs(tokens, 4, 2, dtype=jnp.bfloat16)
        # One rounding of hidden values and of outputs to 8 bits may fall to the other side.
        assert_like_the_contract(backend, args, 8, atol=0.06, rtol=0.03)

    def test_forward_alone_equals_forward_of_the_gradient(self, backend):
        args = inputs(120, 4, 2)
        _, y = product_and_gradients(*args, backend=backend, block_size=8)
        np.testing.assert_allclose(product(*args, backend=backend, block_size=8), y, atol=1e-5)


def test_weights_may_be_wider_than_activations():
    x, chosen, weights, gate_up, down = inputs(20, 4, 2)
    mixed = product(x.astype(jnp.bfloat16), chosen, weights, gate_up, down)
    assert mixed.dtype == jnp.bfloat16
    exact = product(x, chosen, weights, gate_up, down)
    np.testing.assert_allclose(mixed.astype(jnp.float32), exact, atol=0.05)  # 8 bits of mantissa


@pytest.mark.parametrize(("platform", "form"), [("cpu", "xla"), ("gpu", "blocked"), ("tpu", "pallas_tpu")])
def test_auto_takes_the_form_of_the_platform(platform, form, monkeypatch):
    called = []
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setitem(BACKENDS, form, lambda x, *_: called.append(form) or x)
    expert_mlp(*inputs(4, 4, 2))
    assert called == [form]


def test_every_form_that_the_configuration_accepts_is_one_of_the_product():
    for backend in ("auto", *BACKENDS):
        y = product(*inputs(4, 4, 2), backend=FeedForwardConfig(backend=backend).backend)
        np.testing.assert_allclose(y, product(*inputs(4, 4, 2), backend="reference"), atol=1e-5)


def test_unknown_backend_is_named():
    with pytest.raises(ValueError, match="'dense'"):
        expert_mlp(*inputs(4, 4, 2), backend="dense")


class TestRouter:
    """Probabilities, choices and the loss."""

    def test_renormalises_and_counts_masked_tokens_alone(self):
        logits = jnp.array([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 5.0, 5.0]])
        routing = route(logits, 2, jnp.array([1, 0]))
        np.testing.assert_allclose(routing.weights.sum(-1), 1.0, rtol=1e-6)
        assert routing.experts[0].tolist() == [0, 1]
        assert routing.chosen.tolist() == [1, 1, 0, 0]
        assert float(routing.tokens) == 1.0

    def test_weights_are_probabilities_over_all_experts_when_not_normalised(self):
        logits = jnp.array([[2.0, 1.0, 0.0, -1.0]], jnp.bfloat16)
        routing = route(logits, 2, jnp.ones(1), normalize=False)
        np.testing.assert_allclose(
            routing.weights[0], np.exp([2.0, 1.0]) / np.exp([2.0, 1.0, 0.0, -1.0]).sum(), rtol=1e-6
        )

    def test_balanced_load_gives_a_loss_of_k(self):
        chosen, probability = jnp.full((3, 4), 50.0), jnp.full((3, 4), 25.0)  # 100 tokens, k = 2
        tokens = jnp.full(3, 100.0)
        np.testing.assert_allclose(load_balancing_loss(chosen, probability, tokens), 2.0, rtol=1e-6)
        assert float(pooled_load_balancing_loss(chosen, probability, tokens)) == pytest.approx(2.0)

    def test_pooled_loss_sums_counts_over_layers_before_the_product(self):
        # Each layer sends everything to one expert, but another one each: skewed by itself, balanced together.
        chosen, probability = 10.0 * jnp.eye(2), 10.0 * jnp.eye(2)
        tokens = jnp.full(2, 10.0)
        assert load_balancing_loss(chosen, probability, tokens).tolist() == [2.0, 2.0]
        assert float(pooled_load_balancing_loss(chosen, probability, tokens)) == pytest.approx(1.0)

    def test_metrics_of_a_balanced_and_of_a_collapsed_layer(self):
        chosen = jnp.array([[5.0, 5.0, 5.0, 5.0], [20.0, 0.0, 0.0, 0.0]])
        probability = jnp.array([[2.5, 2.5, 2.5, 2.5], [4.0, 4.0, 1.0, 1.0]])
        tokens = jnp.array([10.0, 10.0])
        balanced, collapsed, both = (
            router_metrics(chosen[s], probability[s], tokens[s]) for s in (slice(0, 1), slice(1, 2), slice(0, 2))
        )
        assert balanced["router_load"].tolist() == [0.25] * 4
        assert balanced["router_max_load"] == balanced["router_min_load"] == 0.25
        for name in ("router_entropy", "router_probability_entropy"):
            assert float(balanced[name]) == pytest.approx(np.log(4.0))
        assert collapsed["router_load"].tolist() == [1.0, 0.0, 0.0, 0.0]
        assert float(collapsed["router_entropy"]) == pytest.approx(0.0)
        expected = -2 * (0.4 * np.log(0.4) + 0.1 * np.log(0.1))
        assert float(collapsed["router_probability_entropy"]) == pytest.approx(expected)
        assert both["router_load"].tolist() == [0.625, 0.125, 0.125, 0.125]
        assert (both["router_max_load"], both["router_min_load"]) == (1.0, 0.0)
        assert float(both["router_entropy"]) == pytest.approx(np.log(4.0) / 2)

    def test_a_dense_model_has_no_router_to_watch(self):
        assert router_metrics(jnp.zeros((2, 0)), jnp.zeros((2, 0)), jnp.zeros(2)) == {}

    def test_metrics_of_no_token_are_finite(self):
        metrics = router_metrics(jnp.zeros((1, 4)), jnp.zeros((1, 4)), jnp.zeros(1))
        assert all(bool(jnp.all(jnp.isfinite(value))) for value in metrics.values())
