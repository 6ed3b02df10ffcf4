"""The optimiser step of a vision encoder alone, on pictures with captions, before a decoder reads what it sees."""

from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh

from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.training import VisionTrainingConfig
from qomni_jax.training.captions import caption_loss, init_caption_head
from qomni_jax.training.state import TrainState
from qomni_jax.training.step import Batch, init_state, make_step
from qomni_jax.vision.tower import VisionEncoder


def init_vision_state(
    config: ThinkerConfig, training: VisionTrainingConfig, vision_encoder: Any, mesh: Mesh | None = None
) -> TrainState:
    """Parameters `{"vision_encoder": ..., "caption_head": ...}` and optimiser state (`training.step.init_state`);
    `vision_encoder` are those of a Thinker, fresh or trained. The head serves training alone."""

    def make() -> Any:
        head = init_caption_head(config, jax.random.key(training.seed))
        return {"vision_encoder": vision_encoder, "caption_head": head}

    return init_state(make, training.optimizer, training.steps, mesh)


def make_vision_step(config: ThinkerConfig, training: VisionTrainingConfig) -> jax.stages.Wrapped:
    """The jitted step (`training.step.make_step`) with the caption loss.

    Batches are `patches [R, L, patch]` and `grids [R, 2]`, as the encoder reads them, and `captions [R, U]`, as
    `captions.caption_loss` does.
    """
    assert config.vision is not None
    model = VisionEncoder(config.vision)

    def loss_fn(params: Any, batch: Batch) -> tuple[Array, dict[str, Array]]:
        seen = model.apply({"params": params["vision_encoder"]}, batch["patches"], batch["grids"])
        loss = caption_loss(config, params["caption_head"], seen.tokens, batch["grids"], batch["captions"])
        return loss, {"loss": loss}

    return make_step(loss_fn, training.optimizer, training.steps)
