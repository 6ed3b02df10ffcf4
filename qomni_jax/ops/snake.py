"""The periodic activation of waveform decoders."""

import math

from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.norms import per_channel
from qomni_jax.ops.precision import at_least_float32

_EPS = 1e-9
# Pi in three parts, the first two of few enough bits that whole multiples of them are exact.
_PI = (3.140625, 9.67502593994140625e-4, 1.509957990978376432e-7)
_TERMS = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(1, 6))  # of sin(r) / r in r^2, from r^2 on


def snake_beta(x: Array, alpha: Array, beta: Array) -> Array:
    """`x + sin(x e^alpha)^2 / e^beta`, `x [..., C]`, `alpha, beta [C]` -> `[..., C]`.

    Source: Snake (Ziyin et al. 2020) with a magnitude of its own for every channel, both on a logarithmic scale
    (BigVGAN, Lee et al. 2023); 1e-9 is added to `e^beta` as in the released ancestors.
    """
    frequency, magnitude = (per_channel(jnp.exp(weight.astype(x.dtype)), x.shape) for weight in (alpha, beta))
    return x + sine_squared(x * frequency) / (magnitude + _EPS)


def sine_squared(x: Array) -> Array:
    """`sin(x)^2`, computed in float32, within 3e-7 for |x| up to 10,000; in 64-bit mode as it stands.

    Its period is pi, so that one polynomial on half a turn is all of it: a ninth of the time that XLA's own sine takes
    on a CPU, where waveform decoders spend most of theirs in it.
    """
    y = at_least_float32(x)
    if y.dtype == jnp.float64:
        return jnp.square(jnp.sin(y)).astype(x.dtype)
    turns = jnp.round(y * (1 / math.pi))
    for part in _PI:
        y = y - turns * part
    square = y * y
    series = jnp.zeros_like(y)
    for term in reversed(_TERMS):
        series = (series + term) * square
    return jnp.square(y + y * series).astype(x.dtype)
