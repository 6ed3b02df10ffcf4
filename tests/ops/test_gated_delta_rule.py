"""Every form of the gated delta rule meets the recurrence, with states, segments and gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.ops.gated_delta_rule import gated_delta_rule
from qomni_jax.ops.gated_delta_rule.xla import unit_lower_inverse

delta_rule = jax.jit(gated_delta_rule, static_argnames=("backend", "chunk_size"))


def inputs(steps: int, batch: int = 2, key_heads: int = 2, value_heads: int = 4, dk: int = 8, dv: int = 6):
    rng = np.random.default_rng(steps)
    q, k = rng.normal(size=(2, batch, steps, key_heads, dk))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    v = rng.normal(size=(batch, steps, value_heads, dv))
    g = -np.logaddexp(0.0, rng.normal(size=(batch, steps, value_heads)))
    beta = 1 / (1 + np.exp(-rng.normal(size=(batch, steps, value_heads))))
    state = rng.normal(size=(batch, value_heads, dk, dv))
    return tuple(x.astype(np.float32) for x in (q, k, v, g, beta, state))


@pytest.mark.parametrize(("steps", "chunk_size"), [(1, 16), (3, 1), (3, 16), (16, 4), (16, 16), (37, 4), (37, 16)])
def test_chunked_equals_recurrence(steps, chunk_size):
    args = inputs(steps)
    expected = delta_rule(*args, backend="reference")
    actual = delta_rule(*args, backend="xla", chunk_size=chunk_size)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)  # float32, sums of up to 37 products in another order


def test_gradients_of_every_input_equal_those_of_the_recurrence():
    args = inputs(21)

    def gradients(backend):
        def loss(*xs):
            o, state = gated_delta_rule(*xs, backend=backend, chunk_size=8)
            return jnp.sum(jnp.sin(o)) + jnp.sum(jnp.cos(state))

        return jax.jit(jax.grad(loss, argnums=range(6)))(*args)

    for a, b in zip(gradients("xla"), gradients("reference"), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-5)


@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_packed_segments_equal_separate_sequences(backend):
    q, k, v, g, beta, state = inputs(30, batch=1)
    borders = [0, 7, 18, 30]
    segments = np.repeat(np.arange(3), np.diff(borders))[None]
    packed, last = delta_rule(q, k, v, g, beta, state, segments, backend=backend, chunk_size=8)
    for part, (start, end) in enumerate(itertools.pairwise(borders)):
        cut = [x[:, start:end] for x in (q, k, v, g, beta)]
        alone, alone_last = delta_rule(*cut, state if part == 0 else None, backend=backend, chunk_size=8)
        np.testing.assert_allclose(packed[:, start:end], alone, atol=2e-5)
    np.testing.assert_allclose(last, alone_last, atol=2e-5)


def test_a_sequence_cut_in_two_goes_on_from_its_state():
    q, k, v, g, beta, state = inputs(23)
    whole, last = delta_rule(q, k, v, g, beta, state)
    first, middle = delta_rule(*(x[:, :9] for x in (q, k, v, g, beta)), state)
    second, end = delta_rule(*(x[:, 9:] for x in (q, k, v, g, beta)), middle)
    np.testing.assert_allclose(np.concatenate([first, second], 1), whole, atol=2e-5)
    np.testing.assert_allclose(end, last, atol=2e-5)


def test_inverse_stays_exact_on_correlated_keys():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(1, 64))
    keys = 0.9 * common + 0.44 * rng.normal(size=(64, 64))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    lower = np.tril(0.99 * keys @ keys.T, -1)
    assert np.abs(lower).sum(1).max() > 40  # the regime in which a Neumann series diverges
    exact = np.linalg.inv(np.eye(64) + lower)
    error = np.linalg.norm(jax.jit(unit_lower_inverse)(lower.astype(np.float32)) - exact) / np.linalg.norm(exact)
    assert error < 1e-6


def test_wrong_heads_backend_and_chunk_size_are_named():
    q, k, v, g, beta, _ = inputs(4, key_heads=3)
    with pytest.raises(ValueError, match="4 value heads"):
        gated_delta_rule(q, k, v, g, beta)
    args = inputs(4)
    with pytest.raises(ValueError, match="'cuda'"):
        gated_delta_rule(*args, backend="cuda")
    with pytest.raises(ValueError, match="chunk_size 12"):
        delta_rule(*args, backend="xla", chunk_size=12)
