"""A language model around the decoder: token embedding, layers, output head tied to the embedding or not."""

from typing import NamedTuple

import flax.linen as nn
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.layers.decoder import Cache, Decoder, RouterStats
from qomni_jax.layers.linear import embedding_table, projection


class LanguageModelOutput(NamedTuple):
    """What a call gives: logits, hidden states after the final norm, the cache (None without one), router sums."""

    logits: Array  # [B, T, V] float32
    hidden: Array  # [B, T, D]
    cache: Cache | None
    router: RouterStats


class LanguageModel(nn.Module):
    """`tokens [B, T]` -> `LanguageModelOutput`. Arguments as in `layers.decoder.Decoder`.

    `embed`, `hidden_states` and `logits` are the three stages, callable on their own (`method=`).
    """

    config: LanguageModelConfig

    def setup(self) -> None:
        c = self.config
        self.embed_tokens = self.param("embed_tokens", embedding_table, (c.vocab_size, c.decoder.model_dim))
        self.decoder = Decoder(c.decoder)
        if not c.tie_embeddings:
            self.lm_head = projection(c.vocab_size, "lm_head")

    def __call__(
        self,
        tokens: Array,
        positions: Array | None = None,
        mask: Array | None = None,
        cache: Cache | None = None,
        start: Array | int = 0,
        segment_ids: Array | None = None,
    ) -> LanguageModelOutput:
        batch, steps = tokens.shape
        if positions is None:
            positions = jnp.broadcast_to(start + jnp.arange(steps), (batch, steps))
        if mask is None:
            mask = jnp.ones((batch, steps), jnp.float32)
        hidden, cache, stats = self.decoder(self.embed(tokens), positions, mask, cache, start, segment_ids)
        return LanguageModelOutput(self.logits(hidden), hidden, cache, stats)

    def embed(self, tokens: Array) -> Array:
        """`[...] -> [..., D]` in the activations' type."""
        return self.embed_tokens[tokens].astype(self.config.dtype)

    def logits(self, hidden: Array) -> Array:
        """`[..., D] -> [..., V]` float32."""
        if self.config.tie_embeddings:
            return jnp.einsum(
                "...d,vd->...v",
                hidden,
                self.embed_tokens.astype(hidden.dtype),
                preferred_element_type=jnp.float32,
            )
        return self.lm_head(hidden).astype(jnp.float32)
