"""The chunked cross-entropy equals the plain one, values and gradients, on one device and over a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qomni_jax.training.losses import IGNORED, chunked_cross_entropy, next_token_targets, shifted_targets

BATCH, STEPS, DIM, VOCAB = 4, 7, 8, 24


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((BATCH, STEPS, DIM), np.float32)
    head = rng.standard_normal((DIM, VOCAB), np.float32)
    targets = rng.integers(0, VOCAB, (BATCH, STEPS)).astype(np.int32)
    targets[0, 2:5] = IGNORED
    targets[3] = IGNORED
    return hidden, head, targets


def plain(hidden, head, targets):
    losses = optax.softmax_cross_entropy_with_integer_labels(hidden @ head, jnp.maximum(targets, 0))
    return jnp.sum(losses * (targets >= 0))


@pytest.mark.parametrize("chunk", [1, 5, 1024])
@pytest.mark.parametrize("vocab_axis", [0, 1])
def test_values_and_gradients_equal_those_of_all_logits_at_once(case, chunk, vocab_axis):
    hidden, head, targets = case

    def chunked(hidden, head):
        given = head if vocab_axis else head.T
        return 1.7 * chunked_cross_entropy(hidden, given, targets, chunk=chunk, vocab_axis=vocab_axis)[0]

    value, grads = jax.jit(jax.value_and_grad(chunked, argnums=(0, 1)))(hidden, head)
    expected, expected_grads = jax.value_and_grad(lambda h, w: 1.7 * plain(h, w, targets), argnums=(0, 1))(hidden, head)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for got, want in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    assert chunked_cross_entropy(hidden, head, targets)[1] == np.sum(targets >= 0)
    np.testing.assert_allclose(chunked(hidden, head), expected, rtol=1e-6)  # the form that makes no gradients


def test_no_array_of_the_size_of_all_logits_exists(case):
    hidden, head, targets = case

    def loss(hidden, head):
        return chunked_cross_entropy(hidden, head, targets, chunk=4)[0]

    text = str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(hidden, head))
    assert f"f32[4,{VOCAB}]" in text
    assert f"[{BATCH},{STEPS},{VOCAB}]" not in text
    assert f"[{BATCH * STEPS},{VOCAB}]" not in text


def test_targets_are_the_next_tokens_of_the_same_segment():
    tokens = np.array([[5, 6, 7, 8, 9]])
    np.testing.assert_array_equal(next_token_targets(tokens), [[6, 7, 8, 9, IGNORED]])
    counts = np.array([[1, 0, 1, 1, 1]])
    np.testing.assert_array_equal(next_token_targets(tokens, counts), [[IGNORED, 7, 8, 9, IGNORED]])
    segments = np.array([[0, 0, 1, 1, 1]])
    np.testing.assert_array_equal(next_token_targets(tokens, None, segments), [[6, IGNORED, 8, 9, IGNORED]])


def test_shifted_targets_are_the_tokens_after_next_of_the_same_segment():
    tokens = np.array([[5, 6, 7, 8, 9, 4]])
    np.testing.assert_array_equal(shifted_targets(next_token_targets(tokens)), [[7, 8, 9, 4, IGNORED, IGNORED]])
    segments = np.array([[0, 0, 0, 1, 1, 1]])
    targets = next_token_targets(tokens, None, segments)
    np.testing.assert_array_equal(shifted_targets(targets, segments), [[7, IGNORED, IGNORED, 4, IGNORED, IGNORED]])
