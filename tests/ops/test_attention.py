"""Attention: every form equals a softmax over the visible keys, and its gradients are those."""

import functools

from hypothesis import given
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.ops.attention import attention_over_cache, bidirectional_attention
from qomni_jax.ops.attention.cached import CACHE_BLOCK, attention_cached
from qomni_jax.ops.attention.reference import attention_reference
from qomni_jax.ops.attention.xla import attention_blocked, even_block

LENGTHS = np.array([37, 20, 0, 13])
STEPS = 37
attend = jax.jit(bidirectional_attention, static_argnames=("window", "backend"))
attend_in_any_window = jax.jit(bidirectional_attention, static_argnames="backend")


def naive(q, k, v, window: int) -> np.ndarray:
    """Softmax over the keys of a token's own window in float64, 0 for padding."""
    out = np.zeros(q.shape)
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            seen = slice(t // window * window, min(t // window * window + window, length))
            scores = np.einsum("hd,shd->hs", q[row, t], k[row, seen].astype(np.float64)) / np.sqrt(q.shape[-1])
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            out[row, t] = np.einsum("hs,shd->hd", weights / weights.sum(-1, keepdims=True), v[row, seen])
    return out


@pytest.mark.parametrize("backend", ["reference", "xla"])
@pytest.mark.parametrize("window", [None, 5, 13])
def test_a_token_sees_its_window_and_no_padding(window, backend):
    q, k, v = np.random.default_rng(0).standard_normal((3, len(LENGTHS), STEPS, 2, 6), np.float32)
    expected = naive(q, k, v, window or STEPS)
    out = attend(q, k, v, lengths=LENGTHS, window=window, backend=backend)
    np.testing.assert_allclose(out, expected, atol=2e-6)  # float32
    if window is not None:
        traced = attend_in_any_window(q, k, v, lengths=LENGTHS, window=window, backend=backend)
        np.testing.assert_allclose(traced, expected, atol=2e-6)


def visible(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """First and last slot that each query sees: windows of 8 tokens, whole rows, or a cache with 3 tokens or more."""
    at, end = np.arange(STEPS), LENGTHS[:, None]
    if kind == "cache":
        return np.broadcast_to([[0], [2], [11], [7]], (4, STEPS)), np.array([[3], [14], [23], [8]]) + at
    window = 8 if kind == "windows" else STEPS
    first = at // window * window
    low = np.where(at < end, first, end)
    return low, np.where(at < end, np.minimum(first + window, end) - 1, STEPS - 1)


@pytest.mark.parametrize("kind", ["windows", "rows", "cache"])
def test_blocks_give_what_all_scores_give_forward_and_backward(kind):
    """Blocks of 8: several of them, some wholly out of sight, the last one padded; two query heads for a key head."""
    rng = np.random.default_rng(1)
    slots = 60 if kind == "cache" else STEPS
    q, weight = rng.standard_normal((2, 4, STEPS, 2, 6), np.float32)
    k, v = rng.standard_normal((2, 4, slots, 1, 6), np.float32)
    low, high = visible(kind)

    def found(form):
        def loss(q, k, v):
            out = form(q, k, v, low, high)
            return jnp.sum(weight * out), out

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)

    gradients, out = found(functools.partial(attention_blocked, block_q=8, block_kv=8))
    expected_gradients, expected = found(attention_reference)
    np.testing.assert_allclose(out, expected, atol=2e-6)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-6)  # float32, sums in another order


@given(steps=st.integers(1, 5000), longest=st.sampled_from([8, 100, 256]))
def test_blocks_are_few_and_even(steps, longest):
    block = even_block(steps, longest)
    blocks = -(-steps // block)
    assert block <= longest
    assert blocks <= -(-steps // longest)
    assert blocks * block - steps < 8 * blocks


def test_what_is_not_accepted_is_named():
    q = np.zeros((1, 3, 1, 2), np.float32)
    with pytest.raises(ValueError, match="window 0: accepted is 1 or more tokens"):
        bidirectional_attention(q, q, q, window=0)
    with pytest.raises(ValueError, match="accepted are equal shapes"):
        bidirectional_attention(q, q[:, :2], q)
    with pytest.raises(ValueError, match="backend 'cuda': accepted is auto"):
        bidirectional_attention(q, q, q, backend="cuda")


def test_few_queries_on_a_large_cache_read_the_slots_in_use_alone():
    """Rows of different lengths, padding on the left of one; the last block overlaps the one before it."""
    rng = np.random.default_rng(2)
    slots, start, first = (
        2 * CACHE_BLOCK + 30,
        np.array([3, CACHE_BLOCK + 5, 2 * CACHE_BLOCK + 27]),
        np.array([0, 9, 0]),
    )
    q = rng.standard_normal((3, 2, 4, 6), np.float32)
    keys, values = rng.standard_normal((2, 3, 2, slots, 6), np.float32)
    attend = jax.jit(attention_over_cache, static_argnames="backend")
    expected = attend(q, keys, values, start=start, first=first, backend="reference")
    found = attend(q, keys, values, start=start, first=first)
    np.testing.assert_allclose(found, expected, atol=2e-6)  # the same float32 sums in another order
    alone = attend(q[1:2], keys[1:2], values[1:2], start=start[1:2], first=first[1:2])
    np.testing.assert_allclose(alone[0], found[1], atol=1e-7)
    beyond = np.arange(slots) >= 2 * CACHE_BLOCK
    keys, values = (np.where(beyond[:, None], np.nan, x)[:2] for x in (keys, values))
    low, high = first[:2, None] + np.zeros((1, 2), np.int32), start[:2, None] + np.arange(2)
    np.testing.assert_allclose(jax.jit(attention_cached)(q[:2], keys, values, low, high), expected[:2], atol=2e-6)
