"""The periodic activation of waveform decoders."""

from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.norms import per_channel

_EPS = 1e-9


def snake_beta(x: Array, alpha: Array, beta: Array) -> Array:
    """`x + sin(x e^alpha)^2 / e^beta`, `x [..., C]`, `alpha, beta [C]` -> `[..., C]`.

    Source: Snake (Ziyin et al. 2020) with a magnitude of its own for every channel, both on a logarithmic scale
    (BigVGAN, Lee et al. 2023); 1e-9 is added to `e^beta` as in the released ancestors.
    """
    frequency, magnitude = (per_channel(jnp.exp(weight.astype(x.dtype)), x.shape) for weight in (alpha, beta))
    return x + jnp.square(jnp.sin(x * frequency)) / (magnitude + _EPS)
