"""The chunked (WY) form in plain XLA, for CPUs and GPUs: a scan over chunks, and a backward pass that mirrors it.

With G the running sum of g in a chunk, D_ij = exp(G_i - G_j) for j <= i and s = DK^-0.5, a chunk computes

    L = strictly lower part of beta (K K^T) D,   T = (I + L)^-1,   A = s (Q K^T) D,
    U = T (beta (V - e^G K S)),   O = s e^G Q S + A U,   S' = e^(G_last) S + K^T (e^(G_last - G) U).

Where segments change, D, e^G and e^(G_last - G) are cut to zero. All of it happens inside the scan, where a chunk's
working set stays in a core's cache; T, U and the state before every `stride`-th chunk are kept for the backward pass,
the rest is computed again. Going back with dS', the cotangent of the state after the chunk,

    dU = A^T dO + e^(G_last - G) K dS',   dR = T^T dU,   dA = dO U^T,   dL = -(dR U^T, strictly lower),

dQ, dK, dV and dS follow by the product rule. What reaches G through the state is a row sum of terms that dQ and dK are
made of, what reaches G_last is <dS', S'>, and what reaches G through D is row sums less column sums of dA A + dL L: no
product is needed for the gates alone, and none of these is a small difference of large numbers.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.ops.gated_delta_rule.chunks import Gates, Plan, Tiles, by_token, largest_tile, make_gates, put, take
from qomni_jax.ops.gated_delta_rule.inverse import unit_lower_inverse

CPU_CHUNK = 32
CPU_TILE_BYTES = 1 << 19
NORM_EPS = 1e-6  # of `ops.norms.l2_normalize`

_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def gated_delta_rule_chunked(
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    beta: Array,
    initial_state: Array,
    segment_ids: Array | None,
    *,
    chunk_size: int,
    normalize: bool = False,
) -> tuple[Array, Array]:
    """Shapes and `normalize` as in `api.gated_delta_rule`; any float type in, computed in float32.

    `chunk_size`, a power of two, is the most tokens of a chunk. A CPU takes at most 32: its products run at full speed
    from there on and longer chunks need more of them; it also takes heads and batch rows in tiles whose states fit the
    cache of a core.
    """
    batch, steps, key_heads, key_dim = q.shape
    value_heads, value_dim = v.shape[2:]
    rows, heads = batch, key_heads
    if jax.default_backend() == "cpu":
        chunk_size = min(chunk_size, CPU_CHUNK)
        state_bytes = 4 * key_dim * value_dim * (value_heads // key_heads)
        rows, heads = largest_tile(batch, key_heads, state_bytes, CPU_TILE_BYTES)
    chunk = min(chunk_size, 1 << (steps - 1).bit_length())
    stride = 2 if steps > chunk else 1
    if padding := -steps % (chunk * stride):  # zeros leave the state as it is
        q, k, v, g, beta = (jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2)) for x in (q, k, v, g, beta))
        if segment_ids is not None:
            segment_ids = jnp.pad(segment_ids, ((0, 0), (0, padding)), mode="edge")
    o, state = _chunked(Plan(chunk, stride, rows, heads, normalize), q, k, v, g, beta, initial_state, segment_ids)
    return o[:, :steps], state


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunked(
    plan: Plan, q: Array, k: Array, v: Array, g: Array, beta: Array, state: Array, segment_ids: Array | None
) -> tuple[Array, Array]:
    return _forward(plan, q, k, v, g, beta, state, segment_ids, save=False)[0]


class _Saved(NamedTuple):
    """What the forward pass keeps, with leading axes `[tiles, steps or N, R]`; empty where nothing is kept."""

    states: Array  # [DV, DK] before a step, transposed
    inverses: Array  # [C, C], T
    updates: Array  # [C, DV], U


def _forward(
    plan: Plan,
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    beta: Array,
    state: Array,
    segment_ids: Array | None,
    *,
    save: bool,
) -> tuple[tuple[Array, Array], _Saved | None]:
    tiles = Tiles(plan, q, v)
    gates = make_gates(tiles, g, beta, segment_ids)
    scale = tiles.key_dim**-0.5
    strict = np.tril(np.ones((plan.chunk, plan.chunk), bool), -1)

    def body(carry: Any, state: Array, tile: Array, step: Array) -> tuple[Any, Array]:
        o, saved = carry
        if save:
            saved = saved._replace(states=put(saved.states, jnp.swapaxes(state, 1, 2), tile, step))
        for index in range(plan.stride):
            n = step * plan.stride + index
            (q_n, _), (k_n, _) = (_keys(plan, tiles.read(x, tile, n)) for x in (q, k))
            v_n = tiles.read(v, tile, n)
            gate = gates.at(tile, n)
            keys = tiles.repeat(_einsum("rcd,red->rce", k_n, k_n))
            scores = tiles.repeat(_einsum("rcd,red->rce", q_n, k_n))
            q_n, k_n = tiles.repeat(q_n), tiles.repeat(k_n)
            inverse = unit_lower_inverse(jnp.where(strict, gate.beta[..., None] * gate.decay * keys, 0.0))
            error = v_n - gate.from_start[..., None] * _einsum("rcd,rdv->rcv", k_n, state)
            update = _einsum("rce,rev->rcv", inverse, gate.beta[..., None] * error)
            o_n = (scale * gate.from_start)[..., None] * _einsum("rcd,rdv->rcv", q_n, state)
            o = tiles.write(o, o_n + _einsum("rce,rev->rcv", scale * gate.decay * scores, update), tile, n)
            state = gate.from_start[:, -1, None, None] * state
            state = state + _einsum("rcd,rcv->rdv", k_n, gate.to_end[..., None] * update)
            if save:
                saved = saved._replace(
                    inverses=put(saved.inverses, inverse, tile, n), updates=put(saved.updates, update, tile, n)
                )
        return (o, saved), state

    saved = None
    if save:
        rows, chunk, key_dim, value_dim = tiles.rows, plan.chunk, tiles.key_dim, tiles.value_dim
        saved = _Saved(
            states=jnp.zeros((tiles.count, tiles.chunks // plan.stride, rows, value_dim, key_dim)),
            inverses=jnp.zeros((tiles.count, tiles.chunks, rows, chunk, chunk)),
            updates=jnp.zeros((tiles.count, tiles.chunks, rows, chunk, value_dim)),
        )
    start = state.astype(jnp.float32).reshape(tiles.count, tiles.rows, tiles.key_dim, tiles.value_dim)
    (o, saved), last = tiles.scan(body, (jnp.zeros_like(v), saved), start)
    return (o, last.reshape(state.shape)), saved


def _forward_rule(plan: Plan, *inputs: Any) -> tuple[tuple[Array, Array], Any]:
    outputs, saved = _forward(plan, *inputs, save=True)
    return outputs, (inputs, outputs[1], saved)


def _keys(plan: Plan, x: Array) -> tuple[Array, Array | None]:
    """Queries or keys `[R, C, DK]` as the rule takes them, and what they were scaled with, `[R, C, 1]`."""
    if not plan.normalize:
        return x, None
    scale = jax.lax.rsqrt(_row_sums(x * x) + NORM_EPS)[..., None]
    return x * scale, scale


def _through_norm(dx: Array, x: Array, scale: Array | None) -> Array:
    """The cotangent of what `_keys` read, from that of what it gave, `x`, as rows of key heads."""
    return dx if scale is None else scale * (dx - _row_sums(dx * x)[..., None] * x)


class _Chunk(NamedTuple):
    """One chunk as the backward pass sees it: what was read, saved or made again. Heads are value heads."""

    q: Array  # [R, C, DK]
    k: Array
    keys: Array  # [R, C, C], K K^T
    scores: Array  # [R, C, C], Q K^T
    v: Array  # [R, C, DV]
    do: Array
    update: Array
    inverse: Array
    gate: Gates


class _Gradients(NamedTuple):
    """Of a chunk's inputs; `total` is the cotangent of G."""

    q: Array
    k: Array
    v: Array
    total: Array
    beta: Array


def _backward_rule(plan: Plan, residuals: Any, cotangents: tuple[Array, Array]) -> tuple[Array | None, ...]:
    (q, k, v, g, beta, state, segment_ids), last, saved = residuals
    do, dlast = cotangents
    tiles = Tiles(plan, q, v)
    gates = make_gates(tiles, g, beta, segment_ids)

    def read(tile: Array, n: Array) -> tuple[_Chunk, Callable[[Array, Array], tuple[Array, Array]]]:
        (q_n, q_scale), (k_n, k_scale) = (_keys(plan, tiles.read(x, tile, n)) for x in (q, k))

        def pull(dq: Array, dk: Array) -> tuple[Array, Array]:
            dq, dk = tiles.sum_groups(dq), tiles.sum_groups(dk)
            return _through_norm(dq, q_n, q_scale), _through_norm(dk, k_n, k_scale)

        keys, scores = _einsum("rcd,red->rce", k_n, k_n), _einsum("rcd,red->rce", q_n, k_n)
        chunk = _Chunk(
            q=tiles.repeat(q_n),
            k=tiles.repeat(k_n),
            keys=tiles.repeat(keys),
            scores=tiles.repeat(scores),
            v=tiles.read(v, tile, n),
            do=tiles.read(do, tile, n),
            update=take(saved.updates, tile, n),
            inverse=take(saved.inverses, tile, n),
            gate=gates.at(tile, n),
        )
        return chunk, pull

    def body(gradients: _Gradients, local: tuple[Array, Array], tile: Array, step: Array) -> Any:
        dstate, after = local  # both [R, DV, DK]
        read_chunks = [read(tile, step * plan.stride + index) for index in range(plan.stride)]
        chunks = [chunk for chunk, _ in read_chunks]
        states = [take(saved.states, tile, step)]
        for chunk in chunks[:-1]:
            state = chunk.gate.from_start[:, -1, None, None] * states[-1]
            states.append(state + _einsum("rcv,rcd->rvd", chunk.gate.to_end[..., None] * chunk.update, chunk.k))
        states.append(after)
        for index in reversed(range(plan.stride)):
            found, dstate = _backward_chunk(chunks[index], states[index], states[index + 1], dstate)
            n = step * plan.stride + index
            inputs = (*read_chunks[index][1](found.q, found.k), found.v)
            gradients = _Gradients(
                *(tiles.write(x, dx, tile, n) for x, dx in zip(gradients[:3], inputs, strict=True)),
                *(put(x, dx, tile, n) for x, dx in zip(gradients[3:], found[3:], strict=True)),
            )
        return gradients, (dstate, states[0])

    def by_tile(x: Array) -> Array:
        x = x.astype(jnp.float32).reshape(tiles.count, tiles.rows, tiles.key_dim, tiles.value_dim)
        return jnp.swapaxes(x, 2, 3)

    gate_like = jnp.zeros_like(gates.beta)
    buffers = _Gradients(jnp.zeros_like(q), jnp.zeros_like(k), jnp.zeros_like(v), gate_like, gate_like)
    found, (dstate, _) = tiles.scan(body, buffers, (by_tile(dlast), by_tile(last)), reverse=True)
    dg = jnp.flip(jnp.cumsum(jnp.flip(found.total, -1), -1), -1)
    return (
        *found[:3],
        by_token(dg, g.shape).astype(g.dtype),
        by_token(found.beta, g.shape).astype(beta.dtype),
        jnp.swapaxes(dstate, 2, 3).reshape(state.shape).astype(state.dtype),
        None,
    )


def _backward_chunk(x: _Chunk, state: Array, after: Array, dstate: Array) -> tuple[_Gradients, Array]:
    """`state` before the chunk, `after` it, and the cotangent of `after`, `[R, DV, DK]` -> gradients, that of `state`.

    With states this way round no product but those of `[C, C]` has a transposed operand on its right, which XLA would
    turn round again for every chunk; the barrier keeps XLA from folding the one transposition back into its product.
    """
    scale = x.q.shape[-1] ** -0.5
    strict = np.tril(np.ones(x.keys.shape[-2:], bool), -1)
    beta, from_start, to_end, decay = x.gate
    written, read, kept = beta[..., None], from_start[..., None], to_end[..., None]

    dscores = scale * decay * _einsum("rcv,rev->rce", x.do, x.update)
    dupdate = _einsum("rce,rcv->rev", scale * decay * x.scores, x.do)
    from_state = jax.lax.optimization_barrier(_einsum("rvd,rcd->rvc", dstate, x.k))
    dupdate = dupdate + kept * jnp.swapaxes(from_state, 1, 2)
    derror = _einsum("rce,rcv->rev", x.inverse, dupdate)
    dlower = jnp.where(strict, -decay * _einsum("rcv,rev->rce", derror, x.update), 0.0)
    dkeys = written * dlower

    by_q = scale * read * _einsum("rcv,rvd->rcd", x.do, state)
    by_k = read * _einsum("rcv,rvd->rcd", derror, state)
    by_update = kept * _einsum("rcv,rvd->rcd", x.update, dstate)
    dq = _einsum("rce,red->rcd", dscores, x.k) + by_q
    dk = _einsum("rce,rcd->red", dscores, x.q) + _einsum("rce,red->rcd", dkeys, x.k)
    dk = dk + _einsum("rce,rcd->red", dkeys, x.k) + by_update - written * by_k

    dlower = dlower * x.keys
    through_decay = dscores * x.scores + written * dlower
    error_k = _row_sums(by_k * x.k)
    dtotal = _row_sums(through_decay) - jnp.sum(through_decay, axis=1) - beta * error_k
    dtotal = dtotal + _row_sums(by_q * x.q - by_update * x.k)
    dtotal = dtotal.at[:, -1].add(_row_sums(jnp.sum(dstate * after, axis=1)[:, None])[:, 0])
    dbeta = _row_sums(dlower) + _row_sums(derror * x.v) - error_k

    before = from_start[:, -1, None, None] * dstate
    before = before + _einsum("rcv,rcd->rvd", scale * read * x.do, x.q)
    before = before - _einsum("rcv,rcd->rvd", written * read * derror, x.k)
    return _Gradients(dq, dk, written * derror, dtotal, dbeta), before


def _row_sums(x: Array) -> Array:
    """`[..., D] -> [...]`, as a product: XLA's sums over the last axis are not vectorised on a CPU."""
    return _einsum("...d,d->...", x, jnp.ones(x.shape[-1:]))


_chunked.defvjp(_forward_rule, _backward_rule)
