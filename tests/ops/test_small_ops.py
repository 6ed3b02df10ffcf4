"""Norms, rotary embedding, convolution, attention and sampling against plain formulas."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.ops.attention import grouped_query_attention
from qomni_jax.ops.conv import causal_depthwise_conv
from qomni_jax.ops.conv2d import halving_conv2d
from qomni_jax.ops.gelu import exact_gelu
from qomni_jax.ops.norms import gated_rms_norm, l2_normalize, rms_norm
from qomni_jax.ops.rotary import apply_rotary
from qomni_jax.ops.sampling import penalize_repetition, sample

attend = jax.jit(grouped_query_attention)
convolve = jax.jit(causal_depthwise_conv)
draw = jax.jit(sample, static_argnames=("temperature", "top_k", "top_p", "min_p"))
rotate = jax.jit(apply_rotary, static_argnames=("rotary_dim", "theta"))


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_norms():
    x = jnp.array([[3.0, -4.0]])
    rms = np.sqrt(12.5)
    np.testing.assert_allclose(rms_norm(x, jnp.array([0.0, 1.0])), [[3 / rms, -8 / rms]], rtol=1e-5)
    np.testing.assert_allclose(rms_norm(x, jnp.array([1.0, 2.0]), zero_centred=False), [[3 / rms, -8 / rms]], rtol=1e-5)
    gate = jnp.array([[0.0, 1.0]])
    np.testing.assert_allclose(gated_rms_norm(x, gate, jnp.ones(2)), [[0.0, -4 / rms * jax.nn.silu(1.0)]], rtol=1e-5)
    np.testing.assert_allclose(l2_normalize(x), [[0.6, -0.8]], rtol=1e-5)


def test_rotary_turns_by_position_and_leaves_the_rest():
    x = jnp.array([1.0, 0.0, 7.0]).reshape(1, 1, 1, 3)
    y = rotate(x, np.array([[2]]), rotary_dim=2, theta=100.0)
    np.testing.assert_allclose(y.reshape(3), [np.cos(2), np.sin(2), 7.0], rtol=1e-5)


def test_scores_depend_on_distance_alone():
    q, k = normal(0, 2, 1, 1, 1, 8)

    def score(a, b):
        turned = [rotate(x, np.array([[p]]), rotary_dim=8, theta=100.0) for x, p in ((q, a), (k, b))]
        return float(np.sum(turned[0] * turned[1]))

    np.testing.assert_allclose(score(3, 1), score(103, 101), atol=1e-4)


def test_convolution_is_causal_and_goes_on_from_its_state():
    x = normal(0, 2, 9, 3)
    weight = normal(1, 4, 3)
    zeros = np.zeros((2, 3, 3), np.float32)
    y, _ = convolve(x, weight, zeros)
    expected = sum(weight[3 - d] * x[:, 5 - d] for d in range(4))
    np.testing.assert_allclose(y[:, 5], expected, atol=1e-5)
    first, state = convolve(x[:, :2], weight, zeros)
    second, _ = convolve(x[:, 2:], weight, state)
    np.testing.assert_allclose(np.concatenate([first, second], 1), y, atol=1e-6)


def test_convolution_does_not_cross_segments():
    x = normal(0, 1, 9, 3)
    weight = normal(1, 4, 3)
    zeros = np.zeros((1, 3, 3), np.float32)
    packed, _ = convolve(x, weight, zeros, np.array([[0] * 4 + [1] * 5]))
    alone = [convolve(part, weight, zeros)[0] for part in (x[:, :4], x[:, 4:])]
    np.testing.assert_allclose(packed, np.concatenate(alone, 1), atol=1e-6)


def test_attention_equals_softmax_over_visible_keys():
    q = normal(0, 1, 5, 4, 3)
    k, v = normal(1, 2, 1, 5, 2, 3)
    out = attend(q, k, v)
    weights = jax.nn.softmax(np.einsum("d,sd->s", q[0, 3, 2], k[0, :4, 1]) / np.sqrt(3))
    np.testing.assert_allclose(out[0, 3, 2], weights @ v[0, :4, 1], atol=1e-5)


def test_sampling_is_greedy_at_zero_and_stays_in_the_top_k():
    logits = normal(0, 200, 30)
    logits[:, 4] = -np.inf
    keys = jax.random.split(jax.random.key(1), 200)
    np.testing.assert_array_equal(draw(logits, keys, temperature=0.0, top_k=0), np.argmax(logits, -1))
    drawn = draw(logits, keys, temperature=1.0, top_k=3)
    rank = np.sum(logits > np.take_along_axis(logits, np.asarray(drawn)[:, None], 1), axis=1)
    assert int(rank.max()) == 2  # all three are drawn, no fourth


def test_a_row_draws_the_same_in_any_batch():
    logits = normal(0, 6, 30)
    keys = jax.random.split(jax.random.key(1), 6)
    whole = draw(logits, keys, temperature=0.9, top_k=10)
    assert int(draw(logits[3:4], keys[3:4], temperature=0.9, top_k=10)[0]) == int(whole[3])


def frequencies(**settings: float) -> np.ndarray:
    """How often each of five classes of probability .4, .3, .15, .1, .05 is drawn, in 4,000 draws."""
    logits = np.tile(np.log([0.1, 0.4, 0.05, 0.3, 0.15]).astype(np.float32), (4000, 1))
    drawn = draw(logits, jax.random.split(jax.random.key(2), 4000), temperature=1.0, **settings)
    return np.bincount(np.asarray(drawn), minlength=5) / 4000


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # The likeliest classes until their sum reaches top_p: .4 + .3 is not yet .75, with .15 it is.
        ({"top_p": 0.75}, [0, 0.4, 0, 0.3, 0.15]),
        ({"top_p": 0.01}, [0, 1, 0, 0, 0]),
        # Of the three likeliest, scaled to 1, .4 / .85 + .3 / .85 reaches .8.
        ({"top_k": 3, "top_p": 0.8}, [0, 0.4, 0, 0.3, 0]),
        # At least .3 times the likeliest: .12.
        ({"min_p": 0.3}, [0, 0.4, 0, 0.3, 0.15]),
        ({}, [0.1, 0.4, 0.05, 0.3, 0.15]),
    ],
)
def test_cuts_keep_the_likely_classes_and_their_proportions(settings, expected):
    # The standard error of a share of 4,000 draws is under 0.008.
    np.testing.assert_allclose(frequencies(**settings), np.array(expected) / sum(expected), atol=0.03)


def test_repetition_penalty_makes_what_was_said_less_likely():
    logits, said = np.array([[2.0, -2.0, 1.0]]), np.array([[True, True, False]])
    np.testing.assert_allclose(penalize_repetition(logits, said, 2.0), [[1.0, -4.0, 1.0]])


def test_gelu_is_exact_to_float32():
    x = np.linspace(-12, 12, 2_001, dtype=np.float32)
    expected = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.astype(float)]
    np.testing.assert_allclose(exact_gelu(x), expected, rtol=1e-6, atol=1e-6)  # below zero 1 + erf is a difference


@pytest.mark.parametrize(("channels", "steps", "features"), [(1, 10, 16), (1, 7, 5), (3, 6, 9)])
def test_convolution_halves_an_image(channels, steps, features):
    x, bias = normal(0, 2, steps, features, channels), normal(1, 4)
    kernel = normal(2, channels * 9, 4)
    y = jax.jit(halving_conv2d)(x, kernel, bias)
    padded = np.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
    rows, columns = -(-steps // 2), -(-features // 2)
    # A row of the kernel: input channel, then tap of features, then of steps.
    taps = kernel.reshape(channels, 3, 3, 4)
    expected = np.zeros((2, rows, columns, 4))
    for f, t in itertools.product(range(3), repeat=2):
        seen = padded[:, t : t + 2 * rows : 2, f : f + 2 * columns : 2]
        expected += np.einsum("ntfc,co->ntfo", seen, taps[:, f, t])
    np.testing.assert_allclose(y, expected + bias, atol=1e-5)  # float32
