"""The Talker: one stream of text and speech in, the first codebook out, the other codebooks by the residual module."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.talker import TalkerConfig
from qomni_jax.layers.decoder import Cache, Decoder, RouterStats, empty_cache
from qomni_jax.layers.linear import embedding_table, projection, with_axes
from qomni_jax.ops.sampling import sample


class StreamInput(NamedTuple):
    """Stream steps as the Talker reads them. A step may hold text, a frame, both (dual track) or neither.

    `text [B, T]` int32 token ids, -1 for none; `codes [B, T, Q]` int32; `frame [B, T]` int32: 0 no frame, 1 a frame,
    2 a frame whose content is hidden from the model (input dropout in training).
    """

    text: Array
    codes: Array
    frame: Array


class Talker(nn.Module):
    """Backbone, heads and residual module. Classes of the first head: the codes of codebook 0, then `text_class`
    ("a text token comes next") and `end_class` (end of speech)."""

    config: TalkerConfig

    def setup(self) -> None:
        c = self.config
        dim = c.decoder.model_dim
        self.text_embedding = self.param(
            "text_embedding", with_axes(embedding_table, ("vocab", "embed")), (c.text_vocab_size, dim)
        )
        self.code_embedding = self.param(
            "code_embedding",
            with_axes(embedding_table, (None, "vocab", "embed")),
            (c.num_codebooks, c.codebook_size, dim),
        )
        self.frame_marks = self.param("frame_marks", with_axes(embedding_table, (None, "embed")), (2, dim))
        self.backbone = Decoder(c.decoder)
        self.codec_head = projection(c.codebook_size + 2, "codec_head", ("embed", "vocab"))
        self.residual_decoder = Decoder(c.residual)
        self.residual_heads = self.param(
            "residual_heads",
            with_axes(
                nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", batch_axis=0),
                (None, "embed", "vocab"),
            ),
            (c.num_codebooks - 1, dim, c.codebook_size),
        )

    def __call__(
        self,
        inputs: StreamInput,
        positions: Array,
        mask: Array | None = None,
        cache: Cache | None = None,
        segment_ids: Array | None = None,
    ) -> tuple[Array, Array, Cache | None, RouterStats]:
        """Runs the backbone over stream steps.

        `inputs` as `StreamInput`; the rest as in `layers.decoder.Decoder`. Returns
        first-codebook logits `[B, T, K + 2]` float32, hidden states `[B, T, D]`, the cache and router statistics.
        """
        hidden, cache, stats = self.backbone(self.embed(inputs), positions, mask, cache, segment_ids)
        return self.codec_head(hidden).astype(jnp.float32), hidden, cache, stats

    def embed(self, inputs: StreamInput) -> Array:
        """`[B, T, D]`: text embedding plus frame embedding, each where there is one."""
        text = jnp.where((inputs.text >= 0)[..., None], self.text_embedding[jnp.maximum(inputs.text, 0)], 0.0)
        frame = self.embed_codes(inputs.codes) + self.frame_marks[0]
        frame = jnp.where((inputs.frame == 2)[..., None], self.frame_marks[1], frame)
        return (text + jnp.where((inputs.frame > 0)[..., None], frame, 0.0)).astype(self.config.dtype)

    def embed_codes(self, codes: Array) -> Array:
        """Sum of the codebooks' embeddings: `[..., q] -> [..., D]` for the first q codebooks."""
        tables = range(codes.shape[-1])
        return sum((self.code_embedding[q, codes[..., q]] for q in tables), jnp.zeros((*codes.shape[:-1], 1)))

    def residual_logits(self, hidden: Array, codes: Array) -> Array:
        """Teacher-forced logits of codebooks 1..: `hidden [N, D]`, `codes [N, Q]` -> `[N, Q - 1, K]` float32.

        The residual decoder reads `[hidden, code 0, .., code Q-2]`; the output at code q predicts code q + 1.
        """
        embedded = jnp.stack(
            [self.code_embedding[q, codes[:, q]] for q in range(self.config.num_codebooks - 1)], axis=1
        ).astype(hidden.dtype)
        x = jnp.concatenate([hidden[:, None], embedded], axis=1)
        positions = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
        out, _, _ = self.residual_decoder(x, positions)
        return jnp.einsum("nqd,qdk->nqk", out[:, 1:], self.residual_heads).astype(jnp.float32)

    def residual_codes(self, hidden: Array, code0: Array, keys: Array, **draw: Any) -> Array:
        """Fills in a frame: `hidden [B, D]`, `code0 [B]`, `keys [B]` PRNG keys -> codes `[B, Q]` int32, in one scan.

        `draw`: the settings of `ops.sampling.sample`.
        """
        c = self.config
        batch = code0.shape[0]
        if c.num_codebooks == 1:
            return code0[:, None]
        cache = empty_cache(c.residual, batch, c.num_codebooks, hidden.dtype)
        _, cache, _ = self.residual_decoder(hidden[:, None], jnp.zeros((batch, 1), jnp.int32), cache=cache)

        def step(module: "Talker", carry: tuple[Array, Cache], q: Array) -> tuple[tuple[Array, Cache], Array]:
            code, cache = carry
            x = module.code_embedding[q, code][:, None].astype(hidden.dtype)
            positions = jnp.broadcast_to(q + 1, (batch, 1))
            out, cache, _ = module.residual_decoder(x, positions, cache=cache)
            logits = (out[:, 0] @ module.residual_heads[q].astype(hidden.dtype)).astype(jnp.float32)
            drawn = sample(logits, jax.vmap(jax.random.fold_in)(keys, jnp.full(batch, q)), **draw)
            return (drawn, cache), drawn

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        _, rest = scan(self, (code0, cache), jnp.arange(c.num_codebooks - 1))
        return jnp.concatenate([code0[:, None], rest.T], axis=1)


def init_talker(config: TalkerConfig, key: Array) -> Any:
    """Fresh parameters of all parts, boxed with their axis names."""

    def everything(module: Talker) -> None:
        zeros = jnp.zeros((1, 1), jnp.int32)
        codes = jnp.zeros((1, 1, config.num_codebooks), jnp.int32)
        _, hidden, _, _ = module(StreamInput(zeros, codes, zeros), zeros)
        if config.num_codebooks > 1:
            module.residual_logits(hidden[:, 0], codes[:, 0])

    return Talker(config).init(key, method=everything)["params"]


def text_class(config: TalkerConfig) -> int:
    """The first head's class for "a text token comes next"."""
    return config.codebook_size


def end_class(config: TalkerConfig) -> int:
    """The first head's class for the end of speech."""
    return config.codebook_size + 1
