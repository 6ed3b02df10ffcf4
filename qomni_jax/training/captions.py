"""What teaches the vision encoder: each picture against the tokens of what it shows."""

from typing import Any

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.layers.linear import Projection
from qomni_jax.training.losses import IGNORED


def init_caption_head(config: ThinkerConfig, key: Array) -> Any:
    """Fresh parameters of the head, which training alone has: the mean token of a picture to the vocabulary."""
    assert config.vision is not None
    return _head(config).init(key, jnp.zeros((1, config.vision.output_dim)))["params"]


def caption_loss(config: ThinkerConfig, head: Any, seen: Array, grids: Array, captions: Array) -> Array:
    """Cross-entropy of the mean token of each picture against the tokens of its caption, alike and in no order; the
    mean over pictures with a caption.

    `seen [R, W, D]` tokens of the vision encoder, 0 past a row's own; `grids [R, 2]` as it reads them;
    `captions [R, U]` int32, `IGNORED` after their end. A text's tokens as the classes of a picture: Huang et al.,
    "Classification Done Right for Vision-Language Pre-Training" (NeurIPS 2024), without weights by a token's rarity.
    """
    assert config.vision is not None
    count = jnp.prod(grids, axis=1)[:, None] // config.vision.merged_patches
    logits = _head(config).apply({"params": head}, jnp.sum(seen, axis=1) / jnp.maximum(count, 1))
    is_label = captions != IGNORED
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits.astype(jnp.float32)), jnp.maximum(captions, 0), axis=1)
    losses = -jnp.sum(chosen * is_label, axis=1) / jnp.maximum(jnp.sum(is_label, axis=1), 1)
    return jnp.sum(losses) / jnp.maximum(jnp.sum(jnp.any(is_label, axis=1)), 1)


def _head(config: ThinkerConfig) -> Projection:
    return Projection(config.language_model.vocab_size, ("embed", "vocab"))
