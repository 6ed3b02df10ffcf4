"""Qwen3-Omni's Talker: what the Thinker read and writes in, frames of codes out."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.layers.decoder import Cache, Decoder, empty_cache, unstack
from qomni_jax.layers.linear import embedding_table, projection, with_axes
from qomni_jax.ops.precision import at_least_float32
from qomni_jax.talker.code_predictor import CodePredictor


class TalkerOutput(NamedTuple):
    """What a call gives: logits of codebook 0, hidden states after the final norm, the cache (None without one)."""

    logits: Array  # [B, T, V] float32, or [B, 1, V] with `logits_at`
    hidden: Array  # [B, T, D]
    cache: Cache | None


class ResizeMLP(nn.Module):
    """`[..., any] -> [..., output_dim]`: two linear maps with biases, SiLU between them."""

    hidden_dim: int
    output_dim: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = jax.nn.silu(projection(self.hidden_dim, "fc1", ("embed", "mlp"), use_bias=True)(x))
        return projection(self.output_dim, "fc2", ("mlp", "embed"), use_bias=True)(x)


class Qwen3OmniTalker(nn.Module):
    """`x [B, T, D]` -> `TalkerOutput`. A step of the stream is one vector: text, a frame of codes, or their sum.

    `positions`, `mask` and `cache` as in `layers.decoder.Decoder`; `logits_at [B]`: the one step of each row whose
    logits are wanted.
    """

    config: Qwen3OmniTalkerConfig

    def setup(self) -> None:
        c = self.config
        dim = c.decoder.model_dim
        self.text_projection = ResizeMLP(c.projection_dim, dim)
        self.hidden_projection = ResizeMLP(c.projection_dim, dim)
        table = with_axes(embedding_table, ("vocab", "embed"))
        self.codec_embedding = self.param("codec_embedding", table, (c.vocab_size, dim))
        self.decoder = Decoder(c.decoder)
        self.codec_head = projection(c.vocab_size, "codec_head", ("embed", "vocab"))
        self.code_predictor = CodePredictor(c)

    def __call__(
        self,
        x: Array,
        positions: Array,
        mask: Array | None = None,
        cache: Cache | None = None,
        logits_at: Array | None = None,
    ) -> TalkerOutput:
        hidden, cache, _ = self.decoder(x.astype(self.config.dtype), positions, mask, cache)
        chosen = hidden if logits_at is None else jnp.take_along_axis(hidden, logits_at[:, None, None], axis=1)
        return TalkerOutput(at_least_float32(self.codec_head(chosen)), hidden, cache)

    def embed_text(self, embeddings: Array) -> Array:
        """The Thinker's embeddings of text `[..., Dt]` -> `[..., D]`."""
        return self.text_projection(embeddings.astype(self.config.dtype))

    def embed_prompt(self, embeddings: Array, hidden: Array | None, is_media: Array, codes: Array) -> Array:
        """A prompt `[B, T, D]`: text, or what the Thinker made of media, plus a token of the codec where there is one.

        `embeddings [B, T, Dt]` of the text, `hidden [B, T, Dt]` of the Thinker's layer, which counts where `is_media
        [B, T]` is true, None without media; `codes [B, T]`, -1 for none.
        """
        x = self.embed_text(embeddings)
        if hidden is not None:
            heard_or_seen = self.hidden_projection(hidden.astype(self.config.dtype))
            x = jnp.where(is_media[..., None], heard_or_seen, x)
        return x + jnp.where((codes >= 0)[..., None], self.embed_code(jnp.maximum(codes, 0)), 0)

    def embed_code(self, codes: Array) -> Array:
        """Ids of the Talker's own vocabulary (codebook 0 and special ones) `[...] -> [..., D]`."""
        return self.codec_embedding[codes].astype(self.config.dtype)

    def frame(self, hidden: Array, code: Array, keys: Array, sampling: SamplingConfig) -> tuple[Array, Array]:
        """Fills in a frame: `hidden [B, D]` that `code [B]` was drawn from, `keys [B]` -> codes `[B, Q]` int32 and the
        sum of their embeddings `[B, D]`, which is what the next step reads besides text."""
        first = self.embed_code(code)
        rest, embedded = self.code_predictor.predict(hidden, first, keys, sampling)
        return jnp.concatenate([code[:, None], rest], axis=1), first + embedded

    def forced_logits(self, hidden: Array, first: Array, codes: Array) -> Array:
        """Logits of the code predictor; see there."""
        return self.code_predictor(hidden, first, codes)


def init_qwen3_omni_talker(config: Qwen3OmniTalkerConfig, key: Array) -> Any:
    """Fresh parameters of all parts, boxed with their axis names."""

    def everything(model: Qwen3OmniTalker) -> None:
        nothing = jnp.zeros((1, 1, config.thinker_dim))
        zeros = jnp.zeros((1, 1), jnp.int32)
        hidden = model(model.embed_prompt(nothing, nothing, zeros > 0, zeros), zeros).hidden[:, 0]
        model.forced_logits(hidden, hidden, jnp.zeros((1, config.num_codebooks - 2), jnp.int32))

    return Qwen3OmniTalker(config).init(key, method=everything)["params"]


def empty_talker_cache(config: Qwen3OmniTalkerConfig, batch: int, capacity: int) -> Cache:
    """The cache before the first of at most `capacity` steps a row, in the activations' type."""
    return empty_cache(config.decoder, batch, capacity, jnp.dtype(config.dtype))


def unstack_qwen3_omni_talker(config: Qwen3OmniTalkerConfig, params: Any) -> tuple[Qwen3OmniTalkerConfig, Any]:
    """Configuration and parameters of the twin whose layers have arrays of their own (`DecoderConfig.stacked`)."""
    twin = dataclasses.replace(
        config,
        decoder=dataclasses.replace(config.decoder, stacked=False),
        predictor=dataclasses.replace(config.predictor, stacked=False),
    )
    predictor = params["code_predictor"]
    predictor = {**predictor, "decoder": unstack(config.predictor, predictor["decoder"])}
    return twin, {**params, "decoder": unstack(config.decoder, params["decoder"]), "code_predictor": predictor}
