"""The loss of the Thinker and its optimiser step: what it writes, and what its audio encoder hears."""

import functools
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import Mesh
import optax

from qomni_jax.audio.aut import sample_window
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.training import ThinkerTrainingConfig
from qomni_jax.layers.linear import Projection
from qomni_jax.thinker.model import Media, MediaFeatures, Thinker, init_thinker, place_features
from qomni_jax.training.captions import caption_loss, init_caption_head
from qomni_jax.training.language_model_step import language_model_loss
from qomni_jax.training.losses import IGNORED
from qomni_jax.training.state import TrainState
from qomni_jax.training.step import Batch, init_state, make_step


def init_thinker_state(
    config: ThinkerConfig, training: ThinkerTrainingConfig, thinker: Any = None, mesh: Mesh | None = None
) -> TrainState:
    """Parameters `{"thinker": ..., "ctc_head": ..., "caption_head": ...}` and optimiser state
    (`training.step.init_state`): fresh ones, or those of `thinker`, a trained one, on one device.

    The heads serve training alone; they are there where the Thinker hears and `ctc_weight` is not 0, and where it sees
    and `caption_weight` is not 0.
    """

    def make() -> Any:
        key, head_key = jax.random.split(jax.random.key(training.seed))
        params = {"thinker": init_thinker(config, key) if thinker is None else thinker}
        if config.audio is not None and training.ctc_weight:
            heard = jnp.zeros((1, config.audio.output_dim))
            params["ctc_head"] = _ctc_head(config).init(head_key, heard)["params"]
        if config.vision is not None and training.caption_weight:
            params["caption_head"] = init_caption_head(config, jax.random.fold_in(head_key, 1))
        return params

    return init_state(make, training.optimizer, training.steps, mesh)


def make_thinker_step(config: ThinkerConfig, training: ThinkerTrainingConfig) -> jax.stages.Wrapped:
    """The jitted step (`training.step.make_step`) with `thinker_loss`."""
    return make_step(functools.partial(thinker_loss, config, training), training.optimizer, training.steps)


def thinker_loss(
    config: ThinkerConfig, training: ThinkerTrainingConfig, params: Any, batch: Batch
) -> tuple[Array, dict[str, Array]]:
    """The language model's loss on conversations with media, and the weighted losses of the encoders: CTC of the audio
    encoder, captions of the vision encoder.

    A batch is what `training.thinker_batch.training_batch` makes. Windows of the audio encoder are drawn anew for every
    batch (`audio.aut.sample_window`), by the seed and the batch's number.
    """
    model, variables = Thinker(config), {"params": params["thinker"]}
    media = Media(*(batch.get(name) for name in Media._fields))
    window = None
    if config.audio is not None:
        window = sample_window(config.audio, jax.random.fold_in(jax.random.key(training.seed), batch["number"]))
    features: MediaFeatures = model.apply(variables, media, window, method=Thinker.encode)

    def place(embeddings: Array) -> tuple[Array, Array | None]:
        return place_features(embeddings, batch["slots"], features)

    language_model = params["thinker"]["language_model"]
    loss, metrics = language_model_loss(config.language_model, training, language_model, batch, place)
    if "ctc_head" in params and media.features is not None:
        metrics["ctc_loss"] = _ctc_loss(config, params["ctc_head"], features, batch)
        loss = loss + training.ctc_weight * metrics["ctc_loss"]
    if config.vision is not None and "caption_head" in params and media.patches is not None:
        rows, width = len(batch["captions"]), batch["patches"].shape[1] // config.vision.merged_patches
        seen = features.table[: rows * width].reshape(rows, width, -1)
        metrics["caption_loss"] = caption_loss(config, params["caption_head"], seen, batch["grids"], batch["captions"])
        loss = loss + training.caption_weight * metrics["caption_loss"]
    return loss, {**metrics, "loss": loss, "conversations": batch["conversations"]}


def _ctc_head(config: ThinkerConfig) -> Projection:
    """Audio tokens to the vocabulary and, last, the blank."""
    return Projection(config.language_model.vocab_size + 1, ("embed", "vocab"))


def _ctc_loss(config: ThinkerConfig, head: Any, features: MediaFeatures, batch: Batch) -> Array:
    """Of the transcripts' tokens `labels [A, U]` (`IGNORED` after their end), the mean a label.

    Recordings without labels do not count, nor those with more labels than audio tokens can spell: a label a token,
    and one more between two that are alike.
    """
    assert config.audio is not None
    labels, lengths = batch["labels"], config.audio.num_tokens(batch["frames"])
    width = config.audio.num_tokens(batch["features"].shape[1])
    heard = features.table[-len(labels) * width :].reshape(len(labels), width, -1)
    logits = _ctc_head(config).apply({"params": head}, heard).astype(jnp.float32)
    is_label = labels != IGNORED
    count = jnp.sum(is_label, axis=1)
    alike = jnp.sum((labels[:, 1:] == labels[:, :-1]) & is_label[:, 1:], axis=1)
    counts = is_label & ((count > 0) & (count + alike <= lengths))[:, None]
    padding = (jnp.arange(width) >= lengths[:, None]).astype(jnp.float32)
    losses = optax.ctc_loss(
        logits, padding, jnp.maximum(labels, 0), 1.0 - counts, blank_id=config.language_model.vocab_size
    )
    return jnp.sum(losses * jnp.any(counts, axis=1)) / jnp.maximum(jnp.sum(counts), 1)
