"""One optimiser step of the Talker."""

from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import optax

from qomni_jax.config.talker import TalkerConfig
from qomni_jax.config.training import TalkerTrainingConfig
from qomni_jax.layers.linear import unbox
from qomni_jax.ops.moe.router import load_balancing_loss, router_metrics
from qomni_jax.talker.talker import StreamInput, Talker, init_talker
from qomni_jax.training.optimizer import make_optimizer
from qomni_jax.training.state import TrainState
from qomni_jax.training.step import Batch, make_step


def init_talker_state(
    config: TalkerConfig, training: TalkerTrainingConfig, codebooks: Array | None = None
) -> TrainState:
    """Fresh parameters. `codebooks [Q, K, E]` of the codec, when given, seed the code embeddings by one random
    projection of E to the model's width, so that like codes start with like embeddings."""
    key, projection_key = jax.random.split(jax.random.key(training.seed))
    params = jax.jit(lambda key: unbox(init_talker(config, key)))(key)
    if codebooks is not None:
        projected = codebooks @ jax.random.normal(projection_key, (codebooks.shape[-1], config.decoder.model_dim))
        summed = jnp.sum(jnp.mean(jnp.sum(projected**2, axis=-1), axis=1))
        # A frame's sum of embeddings gets length 1, and each codebook keeps its own share of it.
        projected = projected / jnp.sqrt(summed)
        params = {**params, "code_embedding": projected}
    optimizer = make_optimizer(training.optimizer, training.steps)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_talker_step(config: TalkerConfig, training: TalkerTrainingConfig) -> jax.stages.Wrapped:
    """The jitted step (`training.step.make_step`) with `talker_loss`; batches as of `talker.batch.make_batch`."""
    model = Talker(config)

    def loss_fn(params: Any, batch: Batch) -> tuple[Array, dict[str, Array]]:
        return talker_loss(model, params, batch, training)

    return make_step(loss_fn, training.optimizer, training.steps)


def talker_loss(
    model: Talker, params: Any, batch: Batch, training: TalkerTrainingConfig
) -> tuple[Array, dict[str, Array]]:
    """Cross-entropy of the first head, plus weighted losses of the residual codebooks and of the routers' balance."""
    inputs = StreamInput(batch["text"], batch["codes"], batch["frame"])
    logits, hidden, _, stats = model.apply(
        {"params": params}, inputs, batch["position"], batch["mask"], segment_ids=batch["segment"]
    )
    counts = (batch["target"] >= 0).astype(jnp.float32)
    first = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(batch["target"], 0))
    first = jnp.sum(first * counts) / jnp.maximum(jnp.sum(counts), 1.0)
    correct = jnp.sum((jnp.argmax(logits, axis=-1) == batch["target"]) * counts) / jnp.maximum(jnp.sum(counts), 1.0)
    residual = jnp.zeros(())
    if model.config.num_codebooks > 1:
        drawn = hidden.reshape(-1, hidden.shape[-1])[batch["residual_step"]]
        codes = batch["residual_codes"]
        rest = model.apply({"params": params}, drawn, codes, method=Talker.residual_logits)
        losses = optax.softmax_cross_entropy_with_integer_labels(rest, codes[:, 1:])
        weight = batch["residual_weight"][:, None]
        residual = jnp.sum(losses * weight) / jnp.maximum(jnp.sum(weight) * losses.shape[1], 1.0)
    balance = jnp.mean(load_balancing_loss(stats.chosen, stats.probability, stats.tokens)) if stats.chosen.size else 0.0
    loss = first + training.residual_weight * residual + training.router_aux_weight * balance
    metrics = {
        "loss": loss,
        "first_codebook_loss": first,
        "first_codebook_accuracy": correct,
        "residual_loss": residual,
        "router_balance": jnp.asarray(balance),
        **router_metrics(*stats),
    }
    return loss, metrics
