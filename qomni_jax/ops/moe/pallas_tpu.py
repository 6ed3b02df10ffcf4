"""Experts as grouped products on a TPU: rows sorted by expert, the megablox kernels that ship with jax on top.

`jax.lax.ragged_dot` would do for the forward pass; its weight gradient on TPUs multiplies every row with every expert.
"""

import functools

import jax
from jax import Array
from jax.experimental.pallas.ops.tpu.megablox import ops as megablox
import jax.numpy as jnp

from qomni_jax.ops.moe.grouping import combine, group_by_expert, spread, swiglu

ROWS = 512  # of a tile; fewer where there are not as many


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
    rows = ROWS if experts.size >= ROWS else 128
    product = functools.partial(_grouped_product, sizes=sizes, rows=rows, interpret=interpret)
    sorted_x = jnp.pad(spread(x, groups), ((0, -experts.size % rows), (0, 0)))
    hidden = product(sorted_x, gate_up)
    active = swiglu(hidden[:, :inner].astype(jnp.float32), hidden[:, inner:].astype(jnp.float32)).astype(x.dtype)
    return combine(product(active, down), weights, groups)


def _grouped_product(x: Array, weights: Array, *, sizes: Array, rows: int, interpret: bool) -> Array:
    """`x [P, D]`, whose first `sizes[0]` rows belong to expert 0 and so on, times `weights [E, D, F]`.

    Rows that belong to no expert are not computed: what stands in them afterwards is left to chance.
    """
    return megablox.gmm(x, weights, sizes, x.dtype, functools.partial(_tiles, rows), interpret=interpret)


def _tiles(rows: int, m: int, k: int, n: int) -> tuple[int, int, int]:
    del m
    return rows, min(k, 1024), min(n, 1024)
