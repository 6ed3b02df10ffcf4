"""Pairs of a token and one of its experts, in the order of the experts: the way there, and the way back.

`spread` and `combine` have gradients of their own: gathers by the inverse permutation, since scattering rows is slow on
TPUs, and slow to compile.
"""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp


class Groups(NamedTuple):
    """P = N k pairs sorted by expert; rows `start[e] : end[e]` belong to expert e, those after `end[-1]` to none."""

    pair: Array  # [P] the pair n k + j that stands in a sorted row
    row: Array  # [N, k] the sorted row of a pair: the inverse permutation
    start: Array  # [E]
    end: Array  # [E]


def group_by_expert(experts: Array, num_experts: int) -> Groups:
    """`experts [N, k]`, of which E stands for none, -> `Groups`; pairs of one expert keep their order."""
    pairs = experts.size
    flat = experts.reshape(pairs).astype(jnp.int32)
    places = jnp.arange(pairs, dtype=jnp.int32)
    if (num_experts + 1) * pairs < 2**31:
        # One sorted array of plain integers is several times cheaper than a sort that carries a payload.
        pair = jnp.sort(flat * pairs + places) % pairs
    else:
        pair = jnp.argsort(flat, stable=True).astype(jnp.int32)
    row = jnp.zeros(pairs, jnp.int32).at[pair].set(places, unique_indices=True).reshape(experts.shape)
    counts = jnp.sum(flat[:, None] == jnp.arange(num_experts), axis=0, dtype=jnp.int32)
    end = jnp.cumsum(counts)
    return Groups(pair, row, end - counts, end)


def take(rows: Array, index: Array) -> Array:
    """`rows[index]` for an index that is known to lie inside: no clamp."""
    return rows.at[index].get(mode="promise_in_bounds")


def sum_of_rows(rows: Array, index: Array) -> Array:
    """`sum_j rows[index[:, j]]`: `[P, D], [N, k] -> [N, D]`, one pass for all k."""
    total = take(rows, index[:, 0]).astype(jnp.float32)
    for j in range(1, index.shape[1]):
        total = total + take(rows, index[:, j])
    return total.astype(rows.dtype)


def swiglu(gate: Array, up: Array) -> Array:
    """`silu(gate) * up`."""
    return jax.nn.silu(gate) * up


@jax.custom_vjp
def spread(x: Array, groups: Groups) -> Array:
    """`x [N, D]` -> the rows `[P, D]` of its pairs, in the order of the experts."""
    return take(x, groups.pair // groups.row.shape[1])


def _spread_forward(x: Array, groups: Groups) -> tuple[Array, Groups]:
    return spread(x, groups), groups


def _spread_backward(groups: Groups, d_rows: Array) -> tuple[Array, None]:
    total = jnp.zeros((groups.row.shape[0], d_rows.shape[1]), jnp.float32)
    for j in range(groups.row.shape[1]):
        total = total + _real_rows(d_rows, groups, j)
    return total.astype(d_rows.dtype), None


spread.defvjp(_spread_forward, _spread_backward)


@jax.custom_vjp
def combine(rows: Array, weights: Array, groups: Groups) -> Array:
    """`sum_j weights[:, j] rows[row of pair j]`: `[>= P, D], [N, k] -> [N, D]`; rows of no expert are not seen."""
    total = jnp.zeros((weights.shape[0], rows.shape[1]), jnp.float32)
    for j in range(weights.shape[1]):
        total = total + weights[:, j : j + 1].astype(jnp.float32) * _real_rows(rows, groups, j)
    return total.astype(rows.dtype)


def _combine_forward(rows: Array, weights: Array, groups: Groups) -> tuple[Array, tuple[Array, Array, Groups]]:
    return combine(rows, weights, groups), (rows, weights, groups)


def _combine_backward(saved: tuple[Array, Array, Groups], d_y: Array) -> tuple[Array, Array, None]:
    rows, weights, groups = saved
    pairs, top_k = groups.pair.shape[0], weights.shape[1]
    scale = take(weights.astype(jnp.float32).reshape(-1), groups.pair)
    scale = jnp.where(jnp.arange(pairs) < groups.end[-1], scale, 0.0)
    d_rows = (take(d_y, groups.pair // top_k) * scale[:, None]).astype(rows.dtype)
    d_rows = jnp.pad(d_rows, ((0, rows.shape[0] - pairs), (0, 0)))
    d_weights = [
        jnp.einsum("nd,nd->n", _real_rows(rows, groups, j), d_y, preferred_element_type=jnp.float32)
        for j in range(top_k)
    ]
    return d_rows, jnp.stack(d_weights, axis=1).astype(weights.dtype), None


combine.defvjp(_combine_forward, _combine_backward)


def _real_rows(rows: Array, groups: Groups, j: int) -> Array:
    """The rows of each token's pair j, zeros for pairs without an expert, whose rows may hold anything."""
    row = groups.row[:, j]
    return jnp.where((row < groups.end[-1])[:, None], take(rows, row), 0)
