"""Pairs of a token and one of its experts, in the order of the experts."""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp


class Groups(NamedTuple):
    """P = N k pairs sorted by expert; rows `start[e] : end[e]` belong to expert e."""

    pair: Array  # [P] the pair n k + j that stands in a sorted row
    row: Array  # [N, k] the sorted row of a pair: the inverse permutation
    start: Array  # [E]
    end: Array  # [E]


def group_by_expert(experts: Array, num_experts: int) -> Groups:
    """`experts [N, k]` -> `Groups`; pairs of one expert keep their order."""
    pairs = experts.size
    flat = experts.reshape(pairs).astype(jnp.int32)
    places = jnp.arange(pairs, dtype=jnp.int32)
    if num_experts * pairs < 2**31:
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
