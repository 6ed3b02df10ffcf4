"""Codes to features, and features to codes, as the released ancestors do it."""

import flax.linen as nn
from jax import Array
import jax.numpy as jnp

from qomni_jax.codec.rvq import lookup, quantize
from qomni_jax.config.waveform_codec import CodeEmbeddingConfig, SplitRVQConfig
from qomni_jax.layers.linear import embedding_table, projection, with_axes

_LEAST_USAGE = 1e-5


class CodeEmbedding(nn.Module):
    """Codes as rows of one table, a block of rows a codebook, averaged over the codebooks."""

    config: CodeEmbeddingConfig

    def setup(self) -> None:
        c = self.config
        shape = (c.num_codebooks * c.codebook_size, c.model_dim)
        self.table = self.param("table", with_axes(embedding_table, ("vocab", "embed")), shape)

    def decode(self, codes: Array) -> Array:
        """`[B, T, Q]` -> `[B, T, D]`."""
        c = self.config
        return jnp.mean(self.table[codes + c.codebook_size * jnp.arange(c.num_codebooks)], axis=-2)


class SplitRVQ(nn.Module):
    """A semantic and an acoustic residual quantiser over the same features; their outputs are added."""

    config: SplitRVQConfig

    def setup(self) -> None:
        c = self.config
        self.semantic = ProjectedRVQ(c, c.num_semantic)
        self.acoustic = ProjectedRVQ(c, c.num_codebooks - c.num_semantic)

    def encode(self, features: Array) -> Array:
        """`[B, T, D]` -> int32 `[B, T, Q]`, the semantic codes first."""
        return jnp.concatenate([self.semantic.encode(features), self.acoustic.encode(features)], axis=-1)

    def decode(self, codes: Array) -> Array:
        """`[B, T, Q]` -> `[B, T, D]`."""
        border = self.config.num_semantic
        return self.semantic.decode(codes[..., :border]) + self.acoustic.decode(codes[..., border:])


class ProjectedRVQ(nn.Module):
    """`levels` codebooks between two projections.

    An entry is the mean of the vectors that chose it in training: their sum over their number, running averages both.
    """

    config: SplitRVQConfig
    levels: int

    def setup(self) -> None:
        c = self.config
        shape = (self.levels, c.codebook_size, c.codebook_dim)
        normal, ones = nn.initializers.normal(1.0), nn.initializers.ones
        self.embedding_sum = self.param("embedding_sum", with_axes(normal, (None, "vocab", "embed")), shape)
        self.cluster_usage = self.param("cluster_usage", with_axes(ones, (None, "vocab")), shape[:2])
        self.input_proj = projection(c.codebook_dim, "input_proj")
        self.output_proj = projection(c.model_dim, "output_proj")

    def encode(self, features: Array) -> Array:
        """`[..., D]` -> int32 `[..., levels]`."""
        return quantize(self.input_proj(features), self._codebooks())[0]

    def decode(self, codes: Array) -> Array:
        """`[..., levels]` -> `[..., D]`."""
        return self.output_proj(lookup(codes, self._codebooks()))

    def _codebooks(self) -> Array:
        return self.embedding_sum / jnp.maximum(self.cluster_usage, _LEAST_USAGE)[..., None]
