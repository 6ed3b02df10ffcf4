"""One optimiser step of the decoder language model, on one device or over a mesh."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
import optax

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.training import LanguageModelTrainingConfig
from qomni_jax.layers.decoder import RouterStats
from qomni_jax.layers.language_model import LanguageModel, init_language_model
from qomni_jax.ops.moe.router import pooled_load_balancing_loss, router_metrics
from qomni_jax.parallel.rules import parameter_shardings, partition_spec
from qomni_jax.training.losses import chunked_cross_entropy, next_token_targets, shifted_targets
from qomni_jax.training.optimizer import make_optimizer
from qomni_jax.training.state import TrainState

Batch = dict[str, Array]


def init_language_model_state(
    config: LanguageModelConfig, training: LanguageModelTrainingConfig, mesh: Mesh | None = None
) -> TrainState:
    """Fresh float32 parameters and optimiser state; over a mesh each device makes its own part of them alone."""
    make = _initialiser(config, training)
    shardings = None if mesh is None else _shardings(make, mesh)
    return jax.jit(lambda: nn.meta.unbox(make()), out_shardings=shardings)()


def abstract_language_model_state(
    config: LanguageModelConfig, training: LanguageModelTrainingConfig, mesh: Mesh
) -> TrainState:
    """The shapes, types and placement of `init_language_model_state`, with nothing allocated."""
    make = _initialiser(config, training)
    shapes = jax.eval_shape(lambda: nn.meta.unbox(make()))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        _shardings(make, mesh),
    )


def batch_shardings(mesh: Mesh, batch: Any) -> Any:
    """The placement of a batch's arrays `[B, T]`: rows over data, fsdp and expert, time over context."""
    return jax.tree.map(lambda a: NamedSharding(mesh, partition_spec(mesh, ("batch", "sequence"), a.shape)), batch)


def make_language_model_step(config: LanguageModelConfig, training: LanguageModelTrainingConfig) -> jax.stages.Wrapped:
    """The jitted step `(state, batch) -> (state, metrics)`; the state is donated.

    A batch holds `tokens [B, T]` and may hold `counts [B, T]` (0: not a target), `segment_ids [B, T]` of packed rows
    and `mask [B, T]` (0: padding). Over a mesh, call it inside `jax.set_mesh(mesh)`.
    """
    optimizer = make_optimizer(training.optimizer, training.steps)

    def loss_fn(params: Any, batch: Batch) -> tuple[Array, dict[str, Array]]:
        return language_model_loss(config, training, params, batch)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        (_, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch)
        # Clipping needs all gradients before the first update: each device's part of them is cut out early, and
        # not inside the update, which would keep the whole ones until then.
        grads = jax.lax.optimization_barrier(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        metrics["grad_norm"] = optax.global_norm(grads)
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics

    return jax.jit(step, donate_argnums=0)


def language_model_loss(
    config: LanguageModelConfig, training: LanguageModelTrainingConfig, params: Any, batch: Batch
) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy of the next token, plus the weighted losses of the routers' balance and of the
    multi-token-prediction head: it reads the next token and predicts the one after it."""
    model = LanguageModel(config)
    params = _for_compute(params, config.dtype)
    variables = {"params": params}
    tokens, segment_ids, mask = batch["tokens"], batch.get("segment_ids"), batch.get("mask")
    embedded = model.apply(variables, tokens, method=LanguageModel.embed)
    hidden, _, router = model.apply(
        variables, embedded, None, mask, None, segment_ids, method=LanguageModel.hidden_states
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
        following = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)))
        ahead, _, ahead_router = model.apply(
            variables, following, hidden, None, mask, None, segment_ids, method=LanguageModel.mtp_hidden
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


def _initialiser(config: LanguageModelConfig, training: LanguageModelTrainingConfig) -> Callable[[], TrainState]:
    optimizer = make_optimizer(training.optimizer, training.steps)

    def make() -> TrainState:
        params = init_language_model(config, jax.random.key(training.seed))
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return make


def _shardings(make: Callable[[], TrainState], mesh: Mesh) -> Any:
    return parameter_shardings(mesh, jax.eval_shape(make))
