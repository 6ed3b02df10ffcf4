"""Residual vector quantiser of stacked log-mel frames (SoundStream, Zeghidour et al. 2021, section III-C)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from qomni_jax.codec.kmeans import principal_components, residual_kmeans
from qomni_jax.config.codec import RVQConfig


def quantize(latents: jax.Array, codebooks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Greedy residual quantisation, `[..., D]` with `[Q, K, D]` -> codes int32 `[..., Q]`, quantised `[..., Q, D]`.

    Each level takes the entry nearest to what the levels before it left; ties go to the lowest code.
    """
    residual, codes, entries = latents, [], []
    for codebook in codebooks:
        scores = jnp.sum(codebook**2, axis=-1) - 2.0 * jnp.matmul(
            residual, codebook.T, precision=jax.lax.Precision.HIGHEST
        )
        code = jnp.argmin(scores, axis=-1).astype(jnp.int32)
        entry = codebook[code]
        residual = residual - jax.lax.stop_gradient(entry)
        codes.append(code)
        entries.append(entry)
    return jnp.stack(codes, axis=-1), jnp.stack(entries, axis=-2)


def lookup(codes: jax.Array, codebooks: jax.Array) -> jax.Array:
    """Sum of the entries of a frame's codes, int `[..., Q]` with `[Q, K, D]` -> `[..., D]`."""
    levels = [codebook[codes[..., level]] for level, codebook in enumerate(codebooks)]
    return sum(levels[1:], start=levels[0])


def initial_parameters(stacked: np.ndarray, config: RVQConfig, iterations: int, seed: int) -> dict[str, np.ndarray]:
    """Parameters of `RVQ` fitted in closed form: PCA projections and k-means codebooks.

    Args:
      stacked: log-mel frames joined `stack` by `stack`, float32 `[N, stack * num_mels]`.

    Raises:
      ValueError: fewer frames than codebook entries.
    """
    mean, components = principal_components(stacked, config.latent_dim)
    latents = (stacked - mean) @ components
    codebooks = residual_kmeans(latents, config.num_codebooks, config.codebook_size, iterations, seed)
    return {
        "analysis": components,
        "mean": mean,
        "codebooks": codebooks,
        "synthesis": components.T.copy(),
        "bias": mean.copy(),
    }


class RVQ(nn.Module):
    """Analysis projection, residual codebooks, synthesis projection over `config.stack` log-mel frames at a time."""

    config: RVQConfig
    num_mels: int

    def setup(self):
        stacked = self.config.stack * self.num_mels
        latent = self.config.latent_dim
        kernel = nn.initializers.lecun_normal()
        zeros = nn.initializers.zeros
        entries = nn.initializers.normal(1.0)
        levels = (self.config.num_codebooks, self.config.codebook_size, latent)
        logical = nn.with_logical_partitioning
        self.analysis = self.param("analysis", logical(kernel, ("mel", "embed")), (stacked, latent))
        self.mean = self.param("mean", logical(zeros, ("mel",)), (stacked,))
        self.codebooks = self.param("codebooks", logical(entries, ("codebook", "vocab", "embed")), levels)
        self.synthesis = self.param("synthesis", logical(kernel, ("embed", "mel")), (latent, stacked))
        self.bias = self.param("bias", logical(zeros, ("mel",)), (stacked,))

    def __call__(self, mel: jax.Array) -> dict[str, jax.Array]:
        """Quantises for training, log-mel `[B, S * stack, num_mels]` -> named intermediates.

        Returns:
          mel: what the codes decode to, `[B, S * stack, num_mels]`; its gradient reaches the chosen entries and,
            straight through the quantiser, the analysis projection.
          codes: int32 `[B, S, Q]`.
          commitment: mean squared distance of the latents to their (fixed) quantised values.
          codebook: the same distance level by level, with the latents fixed and the entries free.
        """
        latents = self._analyse(mel)
        codes, entries = quantize(latents, self.codebooks)
        quantized = entries.sum(axis=-2)
        fixed, fixed_entries = jax.lax.stop_gradient(latents), jax.lax.stop_gradient(entries)
        before = fixed[..., None, :] - jnp.cumsum(fixed_entries, axis=-2) + fixed_entries
        return {
            "mel": self._synthesise(quantized + latents - fixed),
            "codes": codes,
            "commitment": jnp.mean((latents - jax.lax.stop_gradient(quantized)) ** 2),
            "codebook": jnp.mean((before - entries) ** 2),
        }

    def encode(self, mel: jax.Array) -> jax.Array:
        """Log-mel `[B, S * stack, num_mels]` -> codes int32 `[B, S, Q]`."""
        return quantize(self._analyse(mel), self.codebooks)[0]

    def decode(self, codes: jax.Array) -> jax.Array:
        """Codes int `[B, S, Q]` -> log-mel `[B, S * stack, num_mels]`."""
        return self._synthesise(lookup(codes, self.codebooks))

    def _analyse(self, mel: jax.Array) -> jax.Array:
        stacked = mel.reshape(mel.shape[0], -1, self.config.stack * self.num_mels)
        return jnp.matmul(stacked - self.mean, self.analysis, precision=jax.lax.Precision.HIGHEST)

    def _synthesise(self, latents: jax.Array) -> jax.Array:
        stacked = jnp.matmul(latents, self.synthesis, precision=jax.lax.Precision.HIGHEST) + self.bias
        return stacked.reshape(latents.shape[0], -1, self.num_mels)
