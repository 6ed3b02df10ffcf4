"""Experts as grouped products on a TPU: rows sorted by expert, the megablox kernels that ship with jax on top.

`jax.lax.ragged_dot` would do for the forward pass; its weight gradient on TPUs multiplies every row with every expert.
"""

import functools

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.moe.grouped_product import GRADIENT_ROWS, grouped_product
from qomni_jax.ops.moe.grouping import combine, group_by_expert, spread, swiglu


def expert_mlp_pallas_tpu(
    x: Array, experts: Array, weights: Array, gate_up: Array, down: Array, block_size: int
) -> Array:
    """As `api.expert_mlp`; `block_size` is not used. Interpreted where the program is not compiled for a TPU."""
    del block_size
    form = functools.partial(_expert_mlp, interpret=False)
    slow = functools.partial(_expert_mlp, interpret=True)
    return jax.lax.platform_dependent(x, experts, weights, gate_up, down, tpu=form, default=slow)


def _expert_mlp(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array, *, interpret: bool) -> Array:
    num_experts, inner, _ = down.shape
    groups = group_by_expert(experts, num_experts)
    sizes = groups.end - groups.start
    sorted_x = jnp.pad(spread(x, groups), ((0, -experts.size % GRADIENT_ROWS), (0, 0)))
    hidden = grouped_product(sorted_x, gate_up, sizes, interpret)
    active = swiglu(hidden[:, :inner].astype(jnp.float32), hidden[:, inner:].astype(jnp.float32)).astype(x.dtype)
    return combine(grouped_product(active, down, sizes, interpret), weights, groups)
