"""The multi-token-prediction head of Qwen3.5: one more attention layer that looks one token further."""

from typing import Any

import flax.linen as nn
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.decoder import DecoderConfig
from qomni_jax.layers.attention import empty_attention_cache
from qomni_jax.layers.decoder import Cache, RouterStats, decoder_layer, make_context, moved_on
from qomni_jax.layers.linear import norm_weight, projection
from qomni_jax.ops.norms import rms_norm


class MultiTokenPrediction(nn.Module):
    """Hidden states that predict the token after next.

    `embeddings [B, T, D]` of the token that follows each position, `hidden [B, T, D]` of the decoder there (after its
    final norm), `positions` of the following token -> `[B, T, D]` after the head's own norm, its cache, router
    statistics. To go on guessing, feed its output back as `hidden` with the token guessed. Mask, cache and segments as
    in `layers.decoder.Decoder`.
    """

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        embeddings: Array,
        hidden: Array,
        positions: Array,
        mask: Array | None = None,
        cache: Cache | None = None,
        segment_ids: Array | None = None,
    ) -> tuple[Array, Cache | None, RouterStats]:
        c = self.config

        def normed(x: Array, name: str) -> Array:
            weight = norm_weight(self, name, c.model_dim, zero_centred=c.zero_centred_norms)
            return rms_norm(x, weight, c.norm_eps, zero_centred=c.zero_centred_norms)

        both = [normed(embeddings, "pre_fc_norm_embedding"), normed(hidden, "pre_fc_norm_hidden")]
        x = projection(c.model_dim, "fc", ("embed", None))(jnp.concatenate(both, axis=-1))
        context = make_context(positions, mask, cache, segment_ids)
        layer_cache = None if cache is None else cache.layers[0]
        x, (layer_cache, stats) = decoder_layer(c)("attention", c, name="layer")(x, layer_cache, context)
        new_cache = None if cache is None else moved_on(cache, (layer_cache,), context, x.shape[1])
        return normed(x, "norm"), new_cache, RouterStats(*(s[None] for s in stats))


def empty_mtp_cache(config: DecoderConfig, batch: int, capacity: int, dtype: Any = jnp.float32) -> Cache:
    """The head's cache before the first of at most `capacity` tokens a row."""
    layer = empty_attention_cache(config.attention, batch, capacity, dtype)
    return Cache((layer,), jnp.zeros(batch, jnp.int32), jnp.zeros(batch, jnp.int32))
