"""Experts as loops over each expert's own rows: the form that is fast on a CPU.

Pairs of token and expert are sorted by expert. A loop over experts takes one expert's weights and walks over its rows
in blocks; the number of blocks is known on the device alone, so there is no padding to a capacity and no gathered copy
of weights. A block that reaches past its expert's last row computes rows that belong to the next expert, which then
overwrites them; only in sums over rows are they masked. The gradients are written by hand in the same form: weight
gradients add up in place, one expert at a time.

A few tokens (decoding) are bound by reading weights. There each block streams its expert's matrices in tiles that stay
in the first-level cache, and experts that nobody chose are not touched.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax import Array, lax
import jax.numpy as jnp

from qomni_jax.ops.moe.grouping import Groups, group_by_expert, sum_of_rows, swiglu, take

_TILE = 96  # rows of a weight matrix that are streamed at once in `_few_rows`


@functools.partial(jax.custom_vjp, nondiff_argnames=("block_size",))
def expert_mlp_xla(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array, block_size: int) -> Array:
    """As `api.expert_mlp`. Large blocks hold up to `4 * block_size` rows, the last ones `block_size / 2`."""
    if experts.size <= 4 * gate_up.shape[0]:
        return _few_rows(x, experts, weights, gate_up, down)
    y, _ = _forward(x, experts, weights, gate_up, down, block_size, keep=False)
    return y


def _forward(
    x: Array, experts: Array, weights: Array, gate_up: Array, down: Array, block_size: int, keep: bool
) -> tuple[Array, Any]:
    """The sorted loop; with `keep`, also what the backward pass needs: groups, padded indices, gate and up."""
    num_experts, inner, dim = down.shape
    sizes = _block_sizes(experts.size, num_experts, block_size)
    groups, token, scale = _sorted(experts, weights, num_experts, sizes[-1])
    padded = token.shape[0]
    kept = tuple(jnp.zeros((padded, inner), x.dtype) for _ in range(2 if keep else 0))

    def expert(e: Array, carry: Any) -> Any:
        into, out_of = _expert(gate_up, e), _expert(down, e)

        def block(at: Array, rows: int, carry: Any) -> Any:
            kept, out = carry
            hidden = _dot(take(x, _slice(token, at, rows)), into)
            gate, up = hidden[:, :inner], hidden[:, inner:]
            scaled = swiglu(gate, up) * _slice(scale, at, rows)[:, None]
            kept = tuple(_write(a, b, at) for a, b in zip(kept, (gate, up), strict=False))
            return kept, _write(out, _dot(scaled.astype(x.dtype), out_of), at)

        return _over_blocks(groups.start[e], groups.end[e], sizes, block, carry)

    kept, out = lax.fori_loop(0, num_experts, expert, (kept, jnp.zeros((padded, dim), x.dtype)))
    return sum_of_rows(out, groups.row), (groups, token, scale, kept)


def _forward_rule(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array, block_size: int) -> Any:
    y, kept = _forward(x, experts, weights, gate_up, down, block_size, keep=True)
    return y, (x, weights, gate_up, down, *kept)


def _backward_rule(block_size: int, residuals: Any, dy: Array) -> Any:
    x, weights, gate_up, down, groups, token, scale, (kept_gate, kept_up) = residuals
    num_experts, _, dim = down.shape
    sizes = _block_sizes(weights.size, num_experts, block_size)
    padded = token.shape[0]

    def expert(e: Array, carry: Any) -> Any:
        into, out_of = _expert(gate_up, e), _expert(down, e)

        def block(at: Array, rows: int, carry: Any) -> Any:
            dx, dscale, dinto, dout_of = carry
            here = _slice(token, at, rows)
            x_rows, dy_rows = take(x, here), take(dy, here)
            inside = at + jnp.arange(rows) < groups.end[e]
            share = jnp.where(inside, _slice(scale, at, rows), 0.0)[:, None]
            gate, up = (_slice(a, at, rows).astype(jnp.float32) for a in (kept_gate, kept_up))
            dactive = _dot(dy_rows, out_of, (1, 1))
            slope = jax.nn.sigmoid(gate)
            active = gate * slope * up
            dscale_rows = jnp.where(inside, jnp.sum(active * dactive, axis=-1), 0.0)
            dshared = dactive * share
            dhidden = jnp.concatenate([dshared * up * slope * (1 + gate * (1 - slope)), dshared * gate * slope], -1)
            dhidden = dhidden.astype(x.dtype)
            dout_of = dout_of + _dot((active * share).astype(x.dtype), dy_rows, (0, 0))
            dinto = dinto + _dot(x_rows, dhidden, (0, 0))
            dx_rows = _dot(dhidden, into, (1, 1))
            return _write(dx, dx_rows, at), _write(dscale, dscale_rows, at), dinto, dout_of

        dx, dscale, dgate_up, ddown = carry
        nothing = jnp.zeros(into.shape, jnp.float32), jnp.zeros(out_of.shape, jnp.float32)
        dx, dscale, dinto, dout_of = _over_blocks(groups.start[e], groups.end[e], sizes, block, (dx, dscale, *nothing))
        return dx, dscale, _write(dgate_up, dinto[None], e), _write(ddown, dout_of[None], e)

    start = jnp.zeros((padded, dim), x.dtype), jnp.zeros(padded), jnp.zeros_like(gate_up), jnp.zeros_like(down)
    dx, dscale, dgate_up, ddown = lax.fori_loop(0, num_experts, expert, start)
    dweights = take(dscale, groups.row).astype(weights.dtype)
    return sum_of_rows(dx, groups.row), None, dweights, dgate_up, ddown


expert_mlp_xla.defvjp(_forward_rule, _backward_rule)


def _few_rows(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array) -> Array:
    """The form for at most a handful of rows an expert; reads the weights of chosen experts, tile by tile."""
    num_experts, inner, dim = down.shape
    pairs = experts.size
    rows = 1 if x.shape[0] == 1 else 4
    groups, token, scale = _sorted(experts, weights, num_experts, rows)
    expert_of_row = jnp.searchsorted(groups.end, jnp.arange(pairs, dtype=jnp.int32), side="right")

    def product(left: Array, matrices: Array, e: Array) -> Array:
        depth, width = matrices.shape[1:]
        tile = next(t for t in range(min(_TILE, depth), 0, -1) if depth % t == 0)

        def step(i: Array, total: Array) -> Array:
            matrix = lax.dynamic_slice(matrices, (e, i * tile, 0), (1, tile, width))[0]
            return total + _dot(lax.dynamic_slice_in_dim(left, i * tile, tile, 1), matrix)

        return lax.fori_loop(0, depth // tile, step, jnp.zeros((left.shape[0], width), jnp.float32))

    def block(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        at, out = carry
        e = expert_of_row[at]
        hidden = product(take(x, _slice(token, at, rows)), gate_up, e)
        scaled = swiglu(hidden[:, :inner], hidden[:, inner:]) * _slice(scale, at, rows)[:, None]
        out = _write(out, product(scaled.astype(x.dtype), down, e), at)
        return jnp.minimum(at + rows, groups.end[e]), out

    start = jnp.zeros((), jnp.int32), jnp.zeros((pairs + rows, dim), x.dtype)
    _, out = lax.while_loop(lambda carry: carry[0] < groups.end[-1], block, start)
    return sum_of_rows(out, groups.row)


def _sorted(experts: Array, weights: Array, num_experts: int, padding: int) -> tuple[Groups, Array, Array]:
    """Groups, and for every sorted row its token and its weight in float32, with `padding` rows more at the end.

    A row that belongs to no expert has weight 0: the last block of the last expert may reach it.
    """
    groups = group_by_expert(experts, num_experts)
    token = jnp.pad(groups.pair // experts.shape[1], (0, padding))
    scale = take(weights.astype(jnp.float32).reshape(-1), groups.pair)
    scale = jnp.pad(jnp.where(jnp.arange(scale.size) < groups.end[-1], scale, 0.0), (0, padding))
    return groups, token, scale


def _block_sizes(pairs: int, num_experts: int, block_size: int) -> tuple[int, ...]:
    """Rows of the large blocks, and of the small ones that an expert's last rows are cut into, so that few are vain."""
    small = max(1, block_size // 2)
    large = min(4 * block_size, 3 * pairs // (4 * num_experts)) // small * small
    return (large, small) if large > small else (small,)


def _over_blocks(start: Array, end: Array, sizes: tuple[int, ...], block: Callable[..., Any], carry: Any) -> Any:
    """Runs `block(at, rows, carry)` over `start : end`: large blocks while they fit (but for less than a small block),
    then small ones, of which the last may reach past `end`."""
    at = start
    for rows in sizes:
        least = max(1, rows - sizes[-1] + 1)

        def body(state: tuple[Array, Any], rows: int = rows) -> tuple[Array, Any]:
            return state[0] + rows, block(state[0], rows, state[1])

        def fits(state: tuple[Array, Any], least: int = least) -> Array:
            return state[0] + least <= end

        at, carry = lax.while_loop(fits, body, (at, carry))
    return carry


def _dot(a: Array, b: Array, contract: tuple[int, int] = (1, 0)) -> Array:
    """A product of two matrices over the given axes, summed and left in float32."""
    axes = ((contract[0],), (contract[1],)), ((), ())
    return lax.dot_general(a, b, axes, preferred_element_type=jnp.float32)


def _expert(matrices: Array, e: Array) -> Array:
    return lax.dynamic_index_in_dim(matrices, e, keepdims=False)


def _slice(rows: Array, at: Array, size: int) -> Array:
    return lax.dynamic_slice_in_dim(rows, at, size)


def _write(rows: Array, new: Array, at: Array) -> Array:
    return lax.dynamic_update_slice_in_dim(rows, new.astype(rows.dtype), at, 0)
