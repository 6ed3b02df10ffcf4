"""Experts as grouped products on a TPU: rows sorted by expert, the megablox kernels that ship with jax on top.

`jax.lax.ragged_dot` would do for the forward pass; its weight gradient on TPUs multiplies every row with every expert.
"""

import functools

import jax
from jax import Array
from jax.experimental.pallas.ops.tpu.megablox import ops as megablox
import jax.numpy as jnp

from qomni_jax.ops.moe.grouping import Groups, group_by_expert, sum_of_rows, swiglu, take

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
    sorted_x = jnp.pad(_spread(x, groups), ((0, -experts.size % rows), (0, 0)))
    hidden = product(sorted_x, gate_up)
    active = swiglu(hidden[:, :inner].astype(jnp.float32), hidden[:, inner:].astype(jnp.float32)).astype(x.dtype)
    return _combine(product(active, down), weights.astype(jnp.float32), groups)


def _grouped_product(x: Array, weights: Array, *, sizes: Array, rows: int, interpret: bool) -> Array:
    """`x [P, D]`, whose first `sizes[0]` rows belong to expert 0 and so on, times `weights [E, D, F]`."""
    return megablox.gmm(x, weights, sizes, x.dtype, functools.partial(_tiles, rows), interpret=interpret)


def _tiles(rows: int, m: int, k: int, n: int) -> tuple[int, int, int]:
    del m
    return rows, min(k, 1024), min(n, 1024)


@jax.custom_vjp
def _spread(x: Array, groups: Groups) -> Array:
    """`x [N, D]` -> the rows `[P, D]` of its pairs, in the order of the experts."""
    return take(x, groups.pair // groups.row.shape[1])


def _spread_forward(x: Array, groups: Groups) -> tuple[Array, Groups]:
    return _spread(x, groups), groups


def _spread_backward(groups: Groups, d_rows: Array) -> tuple[Array, None]:
    # A gather by the inverse permutation: scattering rows is slow on TPUs, and slow to compile.
    return sum_of_rows(d_rows, groups.row), None


_spread.defvjp(_spread_forward, _spread_backward)


@jax.custom_vjp
def _combine(rows: Array, weights: Array, groups: Groups) -> Array:
    """`sum_j weights[:, j] rows[row of pair j]`: `[>= P, D], [N, k] -> [N, D]`."""
    total = jnp.zeros((weights.shape[0], rows.shape[1]), jnp.float32)
    for j in range(weights.shape[1]):
        total = total + weights[:, j : j + 1] * take(rows, groups.row[:, j])
    return total.astype(rows.dtype)


def _combine_forward(rows: Array, weights: Array, groups: Groups) -> tuple[Array, tuple[Array, Array, Groups]]:
    return _combine(rows, weights, groups), (rows, weights, groups)


def _combine_backward(saved: tuple[Array, Array, Groups], d_y: Array) -> tuple[Array, Array, None]:
    rows, weights, groups = saved
    top_k = weights.shape[1]
    d_rows = take(d_y, groups.pair // top_k) * take(weights.reshape(-1), groups.pair)[:, None]
    d_rows = jnp.pad(d_rows.astype(rows.dtype), ((0, rows.shape[0] - d_rows.shape[0]), (0, 0)))
    d_weights = [
        jnp.einsum("nd,nd->n", take(rows, groups.row[:, j]), d_y, preferred_element_type=jnp.float32)
        for j in range(top_k)
    ]
    return d_rows, jnp.stack(d_weights, axis=1), None


_combine.defvjp(_combine_forward, _combine_backward)
