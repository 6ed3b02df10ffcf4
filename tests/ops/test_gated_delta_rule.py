"""Every form of the gated delta rule meets the recurrence, with states, segments and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.ops.gated_delta_rule import gated_delta_rule
from qomni_jax.ops.gated_delta_rule.xla import unit_lower_inverse


def inputs(steps: int, batch: int = 2, key_heads: int = 2, value_heads: int = 4, dk: int = 8, dv: int = 6):
    keys = jax.random.split(jax.random.key(steps), 6)
    q = jax.random.normal(keys[0], (batch, steps, key_heads, dk))
    k = jax.random.normal(keys[1], (batch, steps, key_heads, dk))
    k = k / jnp.linalg.norm(k, axis=-1, keepdims=True)
    v = jax.random.normal(keys[2], (batch, steps, value_heads, dv))
    g = -jax.nn.softplus(jax.random.normal(keys[3], (batch, steps, value_heads)))
    beta = jax.nn.sigmoid(jax.random.normal(keys[4], (batch, steps, value_heads)))
    return q, k, v, g, beta, jax.random.normal(keys[5], (batch, value_heads, dk, dv))


@pytest.mark.parametrize("steps", [1, 3, 16, 37])
@pytest.mark.parametrize("chunk_size", [1, 4, 16])
def test_chunked_equals_recurrence(steps, chunk_size):
    args = inputs(steps)
    expected = gated_delta_rule(*args, backend="reference")
    actual = gated_delta_rule(*args, backend="xla", chunk_size=chunk_size)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)  # float32, sums of up to 37 products in another order


def test_gradients_of_every_input_equal_those_of_the_recurrence():
    args = inputs(21)

    def loss(backend):
        def fn(*xs):
            o, state = gated_delta_rule(*xs, backend=backend, chunk_size=8)
            return jnp.sum(jnp.sin(o)) + jnp.sum(jnp.cos(state))

        return jax.grad(fn, argnums=range(6))(*args)

    for a, b in zip(loss("xla"), loss("reference"), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-5)


@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_packed_segments_equal_separate_sequences(backend):
    q, k, v, g, beta, state = inputs(30, batch=1)
    borders = [0, 7, 19, 30]
    segments = jnp.repeat(jnp.arange(3), jnp.diff(jnp.array(borders)), total_repeat_length=30)[None]
    packed, last = gated_delta_rule(q, k, v, g, beta, state, segments, backend=backend, chunk_size=8)
    for part, (start, end) in enumerate(zip(borders[:-1], borders[1:], strict=True)):
        cut = [x[:, start:end] for x in (q, k, v, g, beta)]
        alone, alone_last = gated_delta_rule(*cut, state if part == 0 else None, backend=backend, chunk_size=8)
        np.testing.assert_allclose(packed[:, start:end], alone, atol=2e-5)
    np.testing.assert_allclose(last, alone_last, atol=2e-5)


def test_a_sequence_cut_in_two_goes_on_from_its_state():
    q, k, v, g, beta, state = inputs(23)
    whole, last = gated_delta_rule(q, k, v, g, beta, state)
    first, middle = gated_delta_rule(*(x[:, :9] for x in (q, k, v, g, beta)), state)
    second, end = gated_delta_rule(*(x[:, 9:] for x in (q, k, v, g, beta)), middle)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=2e-5)
    np.testing.assert_allclose(end, last, atol=2e-5)


def test_inverse_stays_exact_on_correlated_keys():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(1, 64))
    keys = 0.9 * common + 0.44 * rng.normal(size=(64, 64))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    lower = np.tril(0.99 * keys @ keys.T, -1)
    assert np.abs(lower).sum(1).max() > 40  # the regime in which a Neumann series diverges
    exact = np.linalg.inv(np.eye(64) + lower)
    error = np.linalg.norm(unit_lower_inverse(jnp.asarray(lower, jnp.float32)) - exact) / np.linalg.norm(exact)
    assert error < 1e-6


def test_wrong_heads_backend_and_chunk_size_are_named():
    q, k, v, g, beta, _ = inputs(4, key_heads=3)
    with pytest.raises(ValueError, match="4 value heads"):
        gated_delta_rule(q, k, v, g, beta)
    args = inputs(4)
    with pytest.raises(ValueError, match="'cuda'"):
        gated_delta_rule(*args, backend="cuda")
    with pytest.raises(ValueError, match="chunk_size 12"):
        gated_delta_rule(*args, backend="xla", chunk_size=12)
