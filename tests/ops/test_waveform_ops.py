"""What waveform decoders are made of: transposed convolutions, dilated and strided ones, Snake, windowed attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.ops.attention import grouped_query_attention
from qomni_jax.ops.conv import dense_conv
from qomni_jax.ops.overlap_add import transposed_conv
from qomni_jax.ops.snake import sine_squared, snake_beta


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_transposed_convolution_goes_on_from_its_tail(depthwise):
    """Kernels of three strides: the tail holds sums of several steps."""
    x, stride, taps = normal(0, 2, 5, 3), 2, 6
    kernel = normal(1, taps, 3) if depthwise else normal(1, 3, taps, 4)
    expected = np.zeros((2, 4 * stride + taps, kernel.shape[-1]))
    for step in range(5):
        spread = x[:, step, None] * kernel if depthwise else np.einsum("bi,iko->bko", x[:, step], kernel)
        expected[:, step * stride : step * stride + taps] += spread
    tail, pieces = np.zeros((2, taps - stride, kernel.shape[-1]), np.float32), []
    for piece in (x[:, :1], x[:, 1:5]):
        y, tail = transposed_conv(piece, kernel, tail, stride)
        pieces.append(y)
    np.testing.assert_allclose(np.concatenate([*pieces, tail], axis=1), expected, atol=2e-6)  # float32


def test_taps_stand_a_dilation_apart_and_end_at_the_step():
    x, kernel = normal(0, 1, 9, 2), normal(1, 3, 2, 4)
    y = dense_conv(x, kernel, dilation=3)
    assert y.shape == (1, 3, 4)
    np.testing.assert_allclose(y[0, 2], sum(x[0, 2 + 3 * k] @ kernel[k] for k in range(3)), atol=1e-6)
    strided = dense_conv(x[:, :8], kernel[:2], stride=2)
    np.testing.assert_allclose(strided[0, 3], x[0, 6] @ kernel[0] + x[0, 7] @ kernel[1], atol=1e-6)


def test_snake():
    found = snake_beta(jnp.array([[0.5, -2.0]]), jnp.array([0.0, np.log(3.0)]), jnp.array([0.0, np.log(2.0)]))
    np.testing.assert_allclose(found, [[0.5 + np.sin(0.5) ** 2, -2.0 + np.sin(6.0) ** 2 / 2]], rtol=1e-5)


@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_a_query_sees_its_window_of_a_cache(backend):
    """Two rows at other places of a cache of 9 slots, of which the second's first four are empty."""
    q, (k, v) = normal(0, 2, 4, 1, 3), normal(1, 2, 2, 9, 1, 3)
    start, first = np.array([5, 4]), np.array([0, 4])
    out = jax.jit(grouped_query_attention, static_argnames=("window", "backend"))(
        q, k, v, start=start, first=first, window=3, backend=backend
    )
    for row in range(2):
        for step in range(4):
            slot = start[row] + step
            seen = slice(max(slot - 2, first[row]), slot + 1)
            weights = jax.nn.softmax(k[row, seen, 0] @ q[row, step, 0] / np.sqrt(3))
            np.testing.assert_allclose(out[row, step, 0], weights @ v[row, seen, 0], atol=2e-6)  # float32


def test_a_window_needs_a_cache():
    q = np.zeros((1, 3, 1, 2), np.float32)
    with pytest.raises(ValueError, match="window 2: accepted is 1 or more slots, with start"):
        grouped_query_attention(q, q, q, window=2)


def test_the_sine_squared_of_angles_near_and_far():
    """Within three units of the last place of a float32 at 1."""
    x = np.linspace(-30, 30, 10_001, dtype=np.float32)
    for scale in (1.0, 300.0):
        angles = (scale * x).astype(np.float32)
        expected = np.sin(angles.astype(np.float64)) ** 2
        np.testing.assert_allclose(jax.jit(sine_squared)(angles), expected, atol=3e-7, rtol=0)
    slope = jax.vmap(jax.grad(sine_squared))(x)
    np.testing.assert_allclose(slope, np.sin(2 * x.astype(np.float64)), atol=2e-5)
