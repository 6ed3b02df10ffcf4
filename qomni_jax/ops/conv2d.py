"""The convolution that halves both axes of an image."""

import jax
from jax import Array
import jax.numpy as jnp


def halving_conv2d(x: Array, kernel: Array, bias: Array) -> Array:
    """3 x 3 convolution, stride 2, zeros around: `x [N, T, F, C]` -> `[N, ceil(T / 2), ceil(F / 2), O]`.

    `kernel [C * 9, O]`: a row is an input channel and, inside it, a tap of F, then of T (a released kernel
    `[O, C, 3, 3]`, its image lying on its side, as a matrix). `bias [O]`.
    """
    # The image keeps its axes: with the kernel's as they are, XLA's CPU backend turns every image on its side and back.
    kernel = kernel.reshape(x.shape[-1], 3, 3, kernel.shape[-1]).transpose(2, 1, 0, 3)
    if x.shape[-1] == 1 and jax.default_backend() == "cpu":
        return _one_channel(x[..., 0], kernel[:, :, 0], bias)
    layout = ("NTFC", "TFIO", "NTFC")
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=layout) + bias


def _one_channel(x: Array, kernel: Array, bias: Array) -> Array:
    """Of an image `[N, T, F]` by `kernel [3, 3, O]`: nine sums that XLA fuses with what follows, where a product of
    matrices nine deep would be a pass of its own over its result."""
    steps, features = ((size + 1) // 2 for size in x.shape[1:])
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1)))
    taps = ((t, f) for t in range(3) for f in range(3))
    seen = (x[:, t : t + 2 * steps - 1 : 2, f : f + 2 * features - 1 : 2, None] * kernel[t, f] for t, f in taps)
    return sum(seen, bias)
