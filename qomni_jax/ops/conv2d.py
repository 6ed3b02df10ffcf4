"""The convolution that halves both axes of an image."""

import jax
from jax import Array


def halving_conv2d(x: Array, kernel: Array, bias: Array) -> Array:
    """3 x 3 convolution, stride 2, zeros around: `x [N, T, F, C]` -> `[N, ceil(T / 2), ceil(F / 2), O]`.

    `kernel [C * 9, O]`: a row is an input channel and, inside it, a tap of F, then of T (a released kernel
    `[O, C, 3, 3]`, its image lying on its side, as a matrix). `bias [O]`.
    """
    # The image keeps its axes: with the kernel's as they are, XLA's CPU backend turns every image on its side and back.
    kernel = kernel.reshape(x.shape[-1], 3, 3, kernel.shape[-1]).transpose(2, 1, 0, 3)
    layout = ("NTFC", "TFIO", "NTFC")
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=layout) + bias
