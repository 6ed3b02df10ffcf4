"""The Thinker: encoders, then a decoder that reads their outputs between the text and writes text.

Source: Qwen3.5-Omni report, section 2; Qwen3-Omni's Thinker and Qwen3.5's model with vision are the same modules with
other numbers.
"""

from typing import Any, NamedTuple

import flax.linen as nn
from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.audio.aut import AudioEncoder
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.layers.decoder import Cache
from qomni_jax.layers.language_model import LanguageModel, LanguageModelOutput
from qomni_jax.vision.tower import VisionEncoder


class Media(NamedTuple):
    """What the encoders read; None for what is not there.

    Attributes:
      patches, grids: `[R, L, patch]` and `[R, 2]`, frames as `vision.patches.frame_rows` makes them.
      features, frames: `[A, F, mels]` log-mel frames of recordings, and `[A]` how many are a recording's own.
    """

    patches: Array | np.ndarray | None = None
    grids: Array | np.ndarray | None = None
    features: Array | np.ndarray | None = None
    frames: Array | np.ndarray | None = None


class MediaFeatures(NamedTuple):
    """The encoders' outputs in one table: those of the frames, row after row, then those of the recordings.

    Attributes:
      table: `[S, D]`. Output n of row r is `r * outputs a row + n`, padding included.
      deepstack: `[N, V, D]`, further features of the first V, for the first N periods of the decoder.
    """

    table: Array
    deepstack: Array


class Thinker(nn.Module):
    """`tokens [B, T]` and media -> `LanguageModelOutput`; other arguments as those of `LanguageModel`.

    `slots [B, T]`: which row of the media's table stands in the place of a token's embedding, -1 for none
    (`thinker.batch.place_media`). `media`: what the encoders read, or what `encode` (`method=`) gave for it, which may
    serve several calls. `window`: of the audio encoder, as there.
    """

    config: ThinkerConfig

    def setup(self) -> None:
        c = self.config
        self.language_model = LanguageModel(c.language_model)
        if c.audio is not None:
            self.audio_encoder = AudioEncoder(c.audio)
        if c.vision is not None:
            self.vision_encoder = VisionEncoder(c.vision)

    def __call__(
        self,
        tokens: Array,
        positions: Array | None = None,
        mask: Array | None = None,
        cache: Cache | None = None,
        segment_ids: Array | None = None,
        *,
        slots: Array | None = None,
        media: Media | MediaFeatures | None = None,
        window: int | Array | None = None,
        logits_at: Array | None = None,
    ) -> LanguageModelOutput:
        embeddings, deepstack = self.language_model.embed(tokens), None
        if slots is not None and media is not None:
            features = self.encode(media, window) if isinstance(media, Media) else media
            embeddings, deepstack = place_features(embeddings, slots, features)
        rows = (tokens, positions, mask, cache, segment_ids)
        return self.language_model(*rows, embeddings=embeddings, features=deepstack, logits_at=logits_at)

    def encode(self, media: Media, window: int | Array | None = None) -> MediaFeatures:
        """The table of all outputs. Raises ValueError for media that the model has no encoder for."""
        dim, dtype = self.config.language_model.decoder.model_dim, self.config.language_model.dtype
        parts, deepstack = [jnp.zeros((0, dim), dtype)], jnp.zeros((0, 0, dim), dtype)
        if media.patches is not None:
            if self.config.vision is None:
                raise ValueError("images for a Thinker without a vision encoder: accepted is one with `vision`")
            seen = self.vision_encoder(jnp.asarray(media.patches), jnp.asarray(media.grids))
            parts.append(seen.tokens.reshape(-1, dim).astype(dtype))
            deepstack = seen.deepstack.reshape(len(seen.deepstack), len(parts[-1]), dim).astype(dtype)
        if media.features is not None:
            if self.config.audio is None:
                raise ValueError("audio for a Thinker without an audio encoder: accepted is one with `audio`")
            heard, _ = self.audio_encoder(jnp.asarray(media.features), jnp.asarray(media.frames), window)
            parts.append(heard.reshape(-1, dim).astype(dtype))
        return MediaFeatures(jnp.concatenate(parts), deepstack)


def init_thinker(config: ThinkerConfig, key: Array) -> Any:
    """Fresh parameters of all parts, boxed with their axis names."""
    vision, audio = config.vision, config.audio
    media = Media(
        patches=None if vision is None else jnp.zeros((1, vision.merged_patches, vision.patch_dim)),
        grids=None if vision is None else jnp.full((1, 2), vision.merge_size),
        features=None if audio is None else jnp.zeros((1, audio.frames_per_token, audio.num_mels)),
        frames=None if audio is None else jnp.full(1, audio.frames_per_token),
    )

    def everything(model: Thinker) -> None:
        tokens = jnp.zeros((1, 1), jnp.int32)
        hidden = model(tokens, slots=tokens, media=media).hidden
        if config.language_model.num_mtp_layers:
            model.language_model.mtp_hidden(tokens, hidden)

    return Thinker(config).init(key, method=everything)["params"]


def place_features(embeddings: Array, slots: Array | np.ndarray, features: MediaFeatures) -> tuple[Array, Array | None]:
    """Embeddings `[B, T, D]` with rows of the table where `slots [B, T]` name them, and what DeepStack adds there.

    The second is `[N, B, T, D]`, or None where DeepStack adds nothing: the model has none, or has seen nothing.
    """
    if not features.table.shape[0]:
        return embeddings, None
    from_table = features.table[jnp.maximum(slots, 0)].astype(embeddings.dtype)
    embeddings = jnp.where((slots >= 0)[..., None], from_table, embeddings)
    levels, seen, _ = features.deepstack.shape
    if not levels or not seen:
        return embeddings, None
    is_seen = ((slots >= 0) & (slots < seen))[..., None]
    return embeddings, jnp.where(is_seen, features.deepstack[:, jnp.clip(slots, 0, seen - 1)], 0)
