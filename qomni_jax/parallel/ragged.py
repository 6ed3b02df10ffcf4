"""Tokens travel to their experts' devices and back, each to its own: the ragged all-to-all, and the plan it follows.

Every device holds rows (pairs of a token and one of its experts) in the order of the experts, and so of the devices
that own them. What arrives at a device forms a line, sender by sender. A device's buffer has a fixed size; as many
rounds as the longest line needs move it piece by piece, so that memory is bounded and no row is dropped, whatever the
router does. With a balanced load there is one round.
"""

from collections.abc import Callable
import functools
import math
from typing import NamedTuple, TypeVar

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.moe.passes import ExpertProduct

AXIS = "expert"
Carry = TypeVar("Carry")


class Plan(NamedTuple):
    """What one device says to `jax.lax.ragged_all_to_all`: `[P]` rows each, one entry for every device."""

    input_offsets: Array
    send_sizes: Array
    output_offsets: Array
    recv_sizes: Array


def exchange_plans(sizes: Array, device: Array | int, begin: Array | int, capacity: int) -> tuple[Plan, Plan]:
    """One round of a device, there and back: it moves the rows `begin : begin + capacity` of every device's line.

    `sizes [P, P]`: how many rows device i has for device j. There, they land at the start of a buffer of `capacity`
    rows; back, each at the place that it was taken from.
    """
    at_sender = jnp.cumsum(sizes, axis=1) - sizes
    in_line = jnp.cumsum(sizes, axis=0) - sizes
    first, last = (jnp.clip(at, begin, begin + capacity) for at in (in_line, in_line + sizes))
    moved = last - first
    taken = jnp.where(moved > 0, at_sender + first - in_line, 0)
    put = jnp.where(moved > 0, first - begin, 0)
    there = Plan(taken[device], moved[device], put[device], moved[:, device])
    back = Plan(put[:, device], moved[:, device], taken[:, device], moved[device])
    return there, back


def experts_of_arrivals(counts: Array, begin: Array | int, capacity: int) -> Array:
    """The expert of each row of the buffer in a round: `counts [P, E]` rows from each sender for each expert of this
    device -> `[capacity]`, E where no row has arrived."""
    num_experts = counts.shape[1]
    ends = jnp.cumsum(counts.reshape(-1))
    place = begin + jnp.arange(capacity, dtype=ends.dtype)
    # Compared with every end at once: a binary search would be a dozen gathers of single numbers.
    run = jnp.searchsorted(ends, place, side="right", method="compare_all")
    return jnp.where(place < ends[-1], run % num_experts, num_experts).astype(jnp.int32)


def buffer_rows(pairs: int, top_k: int, parts: int, local_experts: int, headroom: float) -> int:
    """Rows of a device's buffer: `headroom` times the `pairs` of a device, at most what could ever arrive."""
    most = pairs // top_k * parts * min(top_k, local_experts)
    return min(most, max(1, math.ceil(headroom * pairs)))


def visit_experts(
    product: ExpertProduct,
    headroom: float,
    top_k: int,
    rows: Array,
    counts: Array,
    gate_up: Array,
    down: Array,
) -> Array:
    """Each row through its expert, wherever that is: `rows [N k, D]` in the order of the experts -> the same.

    Inside `shard_map` over `AXIS`, whose P devices hold E / P experts each. `counts [E]` says how many rows go to each
    expert; rows beyond their sum go nowhere and come back as zeros. The gradient sends rows and cotangents the same
    way, and computes hidden values again where the experts are.
    """
    capacity = buffer_rows(rows.shape[0], top_k, jax.lax.axis_size(AXIS), gate_up.shape[0], headroom)
    return _visit(product, capacity, rows, jax.lax.all_gather(counts, AXIS), gate_up, down)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _visit(product: ExpertProduct, capacity: int, rows: Array, counts: Array, gate_up: Array, down: Array) -> Array:
    def one_round(begin: Array, out: Array) -> Array:
        there, back, experts = _round(counts, begin, capacity)
        y = _apply(product, experts, _exchange(rows, capacity, there), gate_up, down)
        return jax.lax.ragged_all_to_all(y, out, *back, axis_name=AXIS)

    return _in_rounds(counts, capacity, one_round, jnp.zeros_like(rows))


def _visit_forward(
    product: ExpertProduct, capacity: int, rows: Array, counts: Array, gate_up: Array, down: Array
) -> tuple[Array, tuple[Array, ...]]:
    return _visit(product, capacity, rows, counts, gate_up, down), (rows, counts, gate_up, down)


def _visit_backward(
    product: ExpertProduct, capacity: int, saved: tuple[Array, ...], d_out: Array
) -> tuple[Array, None, Array, Array]:
    rows, counts, gate_up, down = saved

    def one_round(begin: Array, gradients: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        d_rows, d_gate_up, d_down = gradients
        there, back, experts = _round(counts, begin, capacity)
        arrived, d_y = (_exchange(a, capacity, there) for a in (rows, d_out))
        _, pull = jax.vjp(functools.partial(_apply, product, experts), arrived, gate_up, down)
        d_arrived, more_gate_up, more_down = pull(d_y)
        d_rows = jax.lax.ragged_all_to_all(d_arrived, d_rows, *back, axis_name=AXIS)
        return d_rows, d_gate_up + more_gate_up, d_down + more_down

    zeros = jnp.zeros_like(rows), jnp.zeros_like(gate_up), jnp.zeros_like(down)
    d_rows, d_gate_up, d_down = _in_rounds(counts, capacity, one_round, zeros)
    return d_rows, None, d_gate_up, d_down


_visit.defvjp(_visit_forward, _visit_backward)


def _round(counts: Array, begin: Array, capacity: int) -> tuple[Plan, Plan, Array]:
    by_device = _by_device(counts)
    device = jax.lax.axis_index(AXIS)
    there, back = exchange_plans(jnp.sum(by_device, axis=2), device, begin, capacity)
    return there, back, experts_of_arrivals(by_device[:, device], begin, capacity)


def _by_device(counts: Array) -> Array:
    """`[P, E]`, senders and experts, -> `[P, P, E / P]`: senders, owners, and each owner's experts."""
    return counts.reshape(counts.shape[0], counts.shape[0], -1)


def _exchange(rows: Array, capacity: int, plan: Plan) -> Array:
    return jax.lax.ragged_all_to_all(rows, jnp.zeros((capacity, rows.shape[1]), rows.dtype), *plan, axis_name=AXIS)


def _apply(product: ExpertProduct, experts: Array, rows: Array, gate_up: Array, down: Array) -> Array:
    ones = jnp.ones((rows.shape[0], 1), jnp.float32)
    return product(rows, experts[:, None], ones, gate_up, down)


def _in_rounds(counts: Array, capacity: int, one_round: Callable[[Array, Carry], Carry], carry: Carry) -> Carry:
    """As many rounds as the longest line of any device needs, the same number everywhere: collectives stay in step."""
    longest = jnp.max(jnp.sum(_by_device(counts), axis=(0, 2)))
    rounds = jax.lax.pmax((longest + capacity - 1) // capacity, jax.sharding.get_abstract_mesh().manual_axes)
    return jax.lax.fori_loop(0, rounds, lambda i, carry: one_round(i * capacity, carry), carry)
