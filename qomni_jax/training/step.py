"""What all stages share: fresh state, and the optimiser step around a loss."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
import optax

from qomni_jax.config.training import OptimizerConfig
from qomni_jax.parallel.rules import parameter_shardings, partition_spec
from qomni_jax.training.optimizer import make_optimizer
from qomni_jax.training.state import TrainState

Batch = dict[str, Array]
Loss = Callable[[Any, Any], tuple[Array, dict[str, Array]]]


def init_state(
    make_params: Callable[[], Any], optimizer: OptimizerConfig, steps: int, mesh: Mesh | None = None
) -> TrainState:
    """Float32 parameters and optimiser state; over a mesh each device makes its own part of them alone.

    `make_params` gives parameters boxed with their axis names, or bare ones where there is no mesh.
    """
    make = _initialiser(make_params, optimizer, steps)
    shardings = None if mesh is None else _shardings(make, mesh)
    return jax.jit(lambda: nn.meta.unbox(make()), out_shardings=shardings)()


def abstract_state(make_params: Callable[[], Any], optimizer: OptimizerConfig, steps: int, mesh: Mesh) -> TrainState:
    """The shapes, types and placement of `init_state`, with nothing allocated."""
    make = _initialiser(make_params, optimizer, steps)
    shapes = jax.eval_shape(lambda: nn.meta.unbox(make()))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        _shardings(make, mesh),
    )


def batch_shardings(mesh: Mesh, batch: Any) -> Any:
    """The placement of a batch's arrays `[B, T]`: rows over data, fsdp and expert, time over context."""
    return jax.tree.map(lambda a: NamedSharding(mesh, partition_spec(mesh, ("batch", "sequence"), a.shape)), batch)


def make_step(loss_fn: Loss, optimizer: OptimizerConfig, steps: int) -> jax.stages.Wrapped:
    """The jitted step `(state, batch) -> (state, metrics)` of a run of `steps`; the state is donated.

    `loss_fn(params, batch)` gives the loss and its metrics. Over a mesh, call the step inside `jax.set_mesh(mesh)`.
    """
    transformation = make_optimizer(optimizer, steps)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        (_, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch)
        # Clipping needs all gradients before the first update: each device's part of them is cut out early, and
        # not inside the update, which would keep the whole ones until then.
        grads = jax.lax.optimization_barrier(grads)
        updates, opt_state = transformation.update(grads, state.opt_state, state.params)
        metrics["grad_norm"] = optax.global_norm(grads)
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics

    return jax.jit(step, donate_argnums=0)


def _initialiser(make_params: Callable[[], Any], optimizer: OptimizerConfig, steps: int) -> Callable[[], TrainState]:
    transformation = make_optimizer(optimizer, steps)

    def make() -> TrainState:
        params = make_params()
        return TrainState(jnp.zeros((), jnp.int32), params, transformation.init(params))

    return make


def _shardings(make: Callable[[], TrainState], mesh: Mesh) -> Any:
    return parameter_shardings(mesh, jax.eval_shape(make))
