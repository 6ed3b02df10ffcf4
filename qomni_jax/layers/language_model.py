"""A language model around the decoder: token embedding, layers, output head tied to the embedding or not."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.layers.decoder import Cache, Decoder, RouterStats, empty_cache, unstack
from qomni_jax.layers.linear import embedding_table, projection, with_axes
from qomni_jax.layers.mtp import MultiTokenPrediction, empty_mtp_cache
from qomni_jax.ops.precision import at_least_float32, wide
from qomni_jax.parallel.embedding import lookup
from qomni_jax.parallel.rules import constrain


class LanguageModelOutput(NamedTuple):
    """What a call gives: logits, hidden states after the final norm, the cache (None without one), router sums."""

    logits: Array  # [B, T, V] float32, or [B, 1, V] with `logits_at`
    hidden: Array  # [B, T, D]
    cache: Cache | None
    router: RouterStats


class LanguageModel(nn.Module):
    """`tokens [B, T]` -> `LanguageModelOutput`.

    Args of the call, besides those of `layers.decoder.Decoder`:
      positions: `[B, T]` or `[3, B, T]`; None counts the tokens of each row, padding and cache considered, from 0 at
        each change of `segment_ids`.
      embeddings: `[B, T, D]` in the place of `embed(tokens)`, where other modalities stand between the text.
      logits_at: `[B]`, the one token of each row whose logits are wanted (prefill).

    `embed`, `hidden_states` and `logits` are its stages, callable on their own (`method=`).
    """

    config: LanguageModelConfig

    def setup(self) -> None:
        c = self.config
        table = with_axes(embedding_table, ("vocab", "embed"))
        self.embed_tokens = self.param("embed_tokens", table, (c.vocab_size, c.decoder.model_dim))
        self.decoder = Decoder(c.decoder)
        if not c.tie_embeddings:
            self.lm_head = projection(c.vocab_size, "lm_head", ("embed", "vocab"))
        if c.num_mtp_layers:
            self.mtp = MultiTokenPrediction(c.decoder)

    def __call__(
        self,
        tokens: Array,
        positions: Array | None = None,
        mask: Array | None = None,
        cache: Cache | None = None,
        segment_ids: Array | None = None,
        *,
        embeddings: Array | None = None,
        features: Array | None = None,
        logits_at: Array | None = None,
        every_state: bool = False,
    ) -> LanguageModelOutput:
        x = self.embed(tokens) if embeddings is None else embeddings.astype(self.config.dtype)
        hidden, cache, router = self.hidden_states(
            x, positions, mask, cache, segment_ids, features=features, every_state=every_state
        )
        chosen = hidden if logits_at is None else jnp.take_along_axis(hidden, logits_at[:, None, None], axis=1)
        return LanguageModelOutput(self.logits(chosen), hidden, cache, router)

    def embed(self, tokens: Array) -> Array:
        """`[...] -> [..., D]` in the activations' type."""
        return lookup(self.embed_tokens, tokens).astype(self.config.dtype)

    def hidden_states(
        self,
        x: Array,
        positions: Array | None = None,
        mask: Array | None = None,
        cache: Cache | None = None,
        segment_ids: Array | None = None,
        *,
        features: Array | None = None,
        every_state: bool = False,
    ) -> tuple[Array, Cache | None, RouterStats]:
        """Embeddings `[B, T, D]` -> hidden states after the final norm, the cache, router statistics."""
        if positions is None:
            positions = default_positions(x.shape[0], x.shape[1], mask, cache, segment_ids)
        return self.decoder(x, positions, mask, cache, segment_ids, features, every_state)

    def mtp_hidden(
        self,
        tokens: Array,
        hidden: Array,
        positions: Array | None = None,
        mask: Array | None = None,
        cache: Cache | None = None,
        segment_ids: Array | None = None,
        *,
        embeddings: Array | None = None,
    ) -> tuple[Array, Cache | None, RouterStats]:
        """The multi-token-prediction head: `tokens [B, T]` that follow each position, `hidden [B, T, D]` there.

        Returns hidden states whose `logits` predict the token after `tokens`, the head's cache and router statistics.
        `positions` are those of `tokens`; None counts them as `__call__` does, from 1. `embeddings` as there.
        """
        if positions is None:
            positions = 1 + default_positions(tokens.shape[0], tokens.shape[1], mask, cache, segment_ids)
        x = self.embed(tokens) if embeddings is None else embeddings.astype(self.config.dtype)
        return self.mtp(x, hidden, positions, mask, cache, segment_ids)

    def logits(self, hidden: Array) -> Array:
        """`[..., D] -> [..., V]`, float32 or better."""
        if self.config.tie_embeddings:
            table = self.embed_tokens.astype(hidden.dtype)
            logits = jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=wide(hidden.dtype))
        else:
            logits = at_least_float32(self.lm_head(hidden))
        return constrain(logits, "batch", *[None] * (logits.ndim - 2), "vocab")


def default_positions(
    batch: int, steps: int, mask: Array | None = None, cache: Cache | None = None, segment_ids: Array | None = None
) -> Array:
    """Positions `[B, T]` of text: 0 at the first token of a row or segment, one more for each token after it."""
    time = jnp.arange(steps, dtype=jnp.int32)
    positions = jnp.broadcast_to(time, (batch, steps))
    if segment_ids is not None:
        changed = jnp.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) != 0
        return positions - jax.lax.cummax(jnp.where(changed, time, 0), axis=1)
    if cache is not None:
        positions = positions + (cache.lengths - cache.first)[:, None]
    if mask is not None:
        leading = jnp.argmax(mask > 0, axis=1).astype(jnp.int32)
        if cache is not None:
            leading = jnp.where(cache.lengths == 0, leading, 0)
        positions = jnp.maximum(positions - leading[:, None], 0)
    return positions


def empty_language_model_cache(config: LanguageModelConfig, batch: int, capacity: int) -> Cache:
    """The cache before the first of at most `capacity` tokens a row, in the activations' type."""
    return empty_cache(config.decoder, batch, capacity, jnp.dtype(config.dtype))


def empty_language_model_mtp_cache(config: LanguageModelConfig, batch: int, capacity: int) -> Cache:
    """The same for the multi-token-prediction head."""
    return empty_mtp_cache(config.decoder, batch, capacity, jnp.dtype(config.dtype))


def init_language_model(config: LanguageModelConfig, key: Array) -> Any:
    """Fresh parameters, boxed with their axis names (`layers.linear.unbox`, `parallel.rules.parameter_shardings`)."""

    def everything(model: LanguageModel, tokens: Array) -> None:
        hidden = model(tokens).hidden
        if config.num_mtp_layers:
            model.mtp_hidden(tokens, hidden)

    return LanguageModel(config).init(key, jnp.zeros((1, 1), jnp.int32), method=everything)["params"]


def unstack_language_model(config: LanguageModelConfig, params: Any) -> tuple[LanguageModelConfig, Any]:
    """Configuration and parameters of the twin whose layers have arrays of their own (`DecoderConfig.stacked`)."""
    twin = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, stacked=False))
    return twin, {**params, "decoder": unstack(config.decoder, params["decoder"])}
