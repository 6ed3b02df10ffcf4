"""The code predictor of Qwen3-Omni: the other codebooks of a frame, one after the other, by a dense transformer."""

from typing import Any

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.layers.decoder import Cache, Decoder, empty_cache
from qomni_jax.layers.linear import embedding_table, with_axes
from qomni_jax.ops.precision import wide
from qomni_jax.ops.sampling import sample


class CodePredictor(nn.Module):
    """Reads `[hidden, code 0, code 1, ..]` of one frame; the output at code q predicts code q + 1.

    Every codebook from 1 on has an embedding and a head of its own; code 0 comes embedded by the Talker. Parameters
    start as those of any transformer here. Follows Qwen3-Omni.
    """

    config: Qwen3OmniTalkerConfig

    def setup(self) -> None:
        c = self.config
        rest, dim = c.num_codebooks - 1, c.predictor.model_dim
        self.codec_embedding = self.param(
            "codec_embedding", with_axes(embedding_table, (None, "vocab", "embed")), (rest, c.codebook_size, dim)
        )
        self.decoder = Decoder(c.predictor)
        init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", batch_axis=0)
        self.lm_head = self.param("lm_head", with_axes(init, (None, "embed", "vocab")), (rest, dim, c.codebook_size))

    def __call__(self, hidden: Array, first: Array, codes: Array) -> Array:
        """Teacher-forced logits of codebooks 1..: `hidden, first [B, D]`, `codes [B, Q - 2]` -> `[B, Q - 1, K]`.

        `first` is code 0, embedded; `codes` are those of the codebooks 1 to Q - 2.
        """
        embedded = [self.embed(level, codes[:, level]) for level in range(codes.shape[1])]
        x = jnp.stack([hidden, first, *embedded], axis=1)
        out, _, _ = self.decoder(x, jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2]))
        return jnp.stack([self._logits(out[:, level + 1], level) for level in range(len(self.lm_head))], axis=1)

    def embed(self, level: int | Array, codes: Array) -> Array:
        """Codes `[...]` of codebook `level + 1` -> `[..., D]`."""
        return self.codec_embedding[level, codes].astype(self.config.dtype)

    def predict(self, hidden: Array, first: Array, keys: Array, sampling: SamplingConfig) -> tuple[Array, Array]:
        """Codes of codebooks 1.. and the sum of their embeddings: `hidden, first [B, D]`, `keys [B]` -> `[B, Q - 1]`
        int32, `[B, D]`. The first two tokens are read at once, the others in one scan."""
        c = self.config
        batch = hidden.shape[0]

        def draw(module: "CodePredictor", out: Array, level: int | Array) -> Array:
            folded = jax.vmap(jax.random.fold_in, (0, None))(keys, level)
            return sample(module._logits(out, level), folded, **sampling.draw)

        def step(module: "CodePredictor", carry: tuple[Array, Array, Cache], level: Array) -> tuple[Any, Array]:
            code, total, cache = carry
            x = module.embed(level - 1, code)
            out, cache, _ = module.decoder(x[:, None], jnp.broadcast_to(level + 1, (batch, 1)), cache=cache)
            drawn = draw(module, out[:, 0], level)
            return (drawn, total + x, cache), drawn

        cache = empty_cache(c.predictor, batch, c.num_codebooks, hidden.dtype)
        positions = jnp.broadcast_to(jnp.arange(2), (batch, 2))
        out, cache, _ = self.decoder(jnp.stack([hidden, first], axis=1), positions, cache=cache)
        code = draw(self, out[:, 1], 0)
        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        carry = (code, jnp.zeros_like(hidden), cache)
        (last, total, _), rest = scan(self, carry, jnp.arange(1, c.num_codebooks - 1))
        total = total + self.embed(c.num_codebooks - 2, last)
        return jnp.concatenate([code[:, None], rest.T], axis=1), total

    def _logits(self, out: Array, level: int | Array) -> Array:
        """`[B, D] -> [B, K]` of the codebook after `level`, float32 or better."""
        head = self.lm_head[level].astype(out.dtype)
        return jnp.dot(out, head, preferred_element_type=wide(out.dtype))
