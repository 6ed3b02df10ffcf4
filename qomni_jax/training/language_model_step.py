"""The loss of the decoder language model and its optimiser step, on one device or over a mesh."""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import Mesh

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.training import LanguageModelTrainingConfig
from qomni_jax.layers.decoder import RouterStats
from qomni_jax.layers.language_model import LanguageModel, init_language_model
from qomni_jax.ops.moe.router import pooled_load_balancing_loss, router_metrics
from qomni_jax.training.losses import chunked_cross_entropy, next_token_targets, shifted_targets
from qomni_jax.training.state import TrainState
from qomni_jax.training.step import Batch, abstract_state, init_state, make_step


def init_language_model_state(
    config: LanguageModelConfig, training: LanguageModelTrainingConfig, mesh: Mesh | None = None
) -> TrainState:
    """Fresh float32 parameters and optimiser state (`training.step.init_state`)."""
    return init_state(_fresh(config, training), training.optimizer, training.steps, mesh)


def abstract_language_model_state(
    config: LanguageModelConfig, training: LanguageModelTrainingConfig, mesh: Mesh
) -> TrainState:
    """The shapes, types and placement of `init_language_model_state`, with nothing allocated."""
    return abstract_state(_fresh(config, training), training.optimizer, training.steps, mesh)


def make_language_model_step(config: LanguageModelConfig, training: LanguageModelTrainingConfig) -> jax.stages.Wrapped:
    """The jitted step (`training.step.make_step`) with `language_model_loss`."""
    loss = functools.partial(language_model_loss, config, training)
    return make_step(loss, training.optimizer, training.steps)


def language_model_loss(
    config: LanguageModelConfig,
    training: LanguageModelTrainingConfig,
    params: Any,
    batch: Batch,
    place: Callable[[Array], tuple[Array, Array | None]] | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy of the next token, plus the weighted losses of the routers' balance and of the
    multi-token-prediction head: it reads the next token and predicts the one after it.

    A batch holds `tokens [B, T]` and may hold `counts [B, T]` (0: not a target), `segment_ids [B, T]` of packed rows,
    `mask [B, T]` (0: padding) and `positions [B, T]` or `[3, B, T]`. `place` puts other modalities among the embeddings
    `[B, T, D]` and gives what DeepStack adds (`thinker.model.place_features`).
    """
    model = LanguageModel(config)
    params = _for_compute(params, config.dtype)
    variables = {"params": params}
    tokens, segment_ids, mask = batch["tokens"], batch.get("segment_ids"), batch.get("mask")
    positions = batch.get("positions")
    embedded, deepstack = model.apply(variables, tokens, method=LanguageModel.embed), None
    if place is not None:
        embedded, deepstack = place(embedded)
    hidden, _, router = model.apply(
        variables, embedded, positions, mask, None, segment_ids, features=deepstack, method=LanguageModel.hidden_states
    )

    def cross_entropy(hidden: Array, targets: Array) -> Array:
        head, axis = (params["embed_tokens"], 0) if config.tie_embeddings else (params["lm_head"]["kernel"], 1)
        total, count = chunked_cross_entropy(hidden, head, targets, chunk=training.loss_chunk, vocab_axis=axis)
        return total / jnp.maximum(count, 1.0)

    counts = batch.get("counts", mask)
    targets = next_token_targets(tokens, counts, segment_ids)
    token_loss = cross_entropy(hidden, targets)
    balance = router_balance(router)
    loss = token_loss + config.router_aux_weight * balance
    metrics = {"token_loss": token_loss, "router_balance": balance, **router_metrics(*router)}
    if config.num_mtp_layers:
        following = jnp.pad(embedded[:, 1:], ((0, 0), (0, 1), (0, 0)))
        at = None if positions is None else jnp.concatenate([positions[..., 1:], positions[..., -1:]], axis=-1)
        ahead, _, ahead_router = model.apply(
            variables,
            tokens,
            hidden,
            at,
            mask,
            None,
            segment_ids,
            embeddings=following,
            method=LanguageModel.mtp_hidden,
        )
        metrics["mtp_loss"] = cross_entropy(ahead, shifted_targets(targets, segment_ids))
        loss = loss + training.mtp_weight * metrics["mtp_loss"]
        loss = loss + config.router_aux_weight * router_balance(ahead_router)
    return loss, {"loss": loss, **metrics}


def router_balance(router: RouterStats) -> Array:
    """The load-balancing loss over all layers' tokens together (`top_k` when the load is balanced), 0 without experts.

    Source: parity with the released Qwen3.5 mixture-of-experts models.
    """
    if not router.chosen.size:
        return jnp.zeros(())
    return pooled_load_balancing_loss(*router)


def _for_compute(params: Any, dtype: str) -> Any:
    """Matrices in the activations' type before they are gathered from other devices; vectors stay float32."""
    return jax.tree_util.tree_map_with_path(
        lambda path, p: p.astype(dtype) if jax.tree_util.keystr(path).endswith(_MATRICES) else p, params
    )


_MATRICES = ("['kernel']", "_proj']", "['embed_tokens']", "['conv1d']")


def _fresh(config: LanguageModelConfig, training: LanguageModelTrainingConfig) -> Callable[[], Any]:
    return lambda: init_language_model(config, jax.random.key(training.seed))
