"""Attention in blocks with a running softmax: neither pass holds more than one block of scores a head.

Forward: for each block of queries, over the blocks of keys that it can see, (m, l, a) <- maximum, sum and weighted
values so far. Backward: for each block of keys, over the blocks of queries that see it, from the saved log-sum-exp.
Blocks that lie wholly after or before everything in sight are not computed.
"""

import functools

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.attention.reference import HIDDEN

BLOCK = 256
BIDIRECTIONAL_BLOCK = 512  # no block lies out of sight, and every one costs passes over what is there so far


def attention_blocked(
    q: Array, k: Array, v: Array, low: Array, high: Array, *, block_q: int = BLOCK, block_kv: int = BLOCK
) -> Array:
    """Shapes and meaning as in `reference.attention_reference`; `block_q` and `block_kv` are the longest blocks.

    A CPU goes through rows and key heads one by one: the scores of a block of one stay in its cache.
    """
    attend = functools.partial(_all_heads, block_q=block_q, block_kv=block_kv)
    batch, steps, heads, dim = q.shape
    kv_heads = k.shape[2]
    if jax.default_backend() != "cpu" or batch * kv_heads == 1:
        return attend(q, k, v, low, high)

    def one_by_one(x: Array) -> Array:
        x = x.reshape(batch, x.shape[1], kv_heads, -1, dim).transpose(0, 2, 1, 3, 4)
        return x.reshape(batch * kv_heads, 1, *x.shape[2:])

    rows = (jnp.repeat(x, kv_heads, axis=0)[:, None] for x in (low, high))
    o = jax.lax.map(lambda head: attend(*head), (*map(one_by_one, (q, k, v)), *rows))
    o = o.reshape(batch, kv_heads, steps, heads // kv_heads, dim)
    return o.transpose(0, 2, 1, 3, 4).reshape(q.shape)


def _all_heads(q: Array, k: Array, v: Array, low: Array, high: Array, *, block_q: int, block_kv: int) -> Array:
    batch, steps, heads, dim = q.shape
    slots, kv_heads = k.shape[1:3]
    block_q, block_kv = even_block(steps, block_q), even_block(slots, block_kv)
    pad_q, pad_kv = -steps % block_q, -slots % block_kv
    q = jnp.pad(q * jnp.asarray(dim**-0.5, q.dtype), ((0, 0), (0, pad_q), (0, 0), (0, 0)))
    q = q.reshape(batch, -1, block_q, kv_heads, heads // kv_heads, dim).transpose(1, 0, 3, 4, 2, 5)
    k, v = (
        jnp.pad(x, ((0, 0), (0, pad_kv), (0, 0), (0, 0)))
        .reshape(batch, -1, block_kv, kv_heads, dim)
        .transpose(1, 0, 3, 2, 4)
        for x in (k, v)
    )
    low, high = (
        jnp.pad(x, ((0, 0), (0, pad_q)), mode="edge").reshape(batch, -1, block_q).transpose(1, 0, 2)
        for x in (low, high)
    )
    o = _attend(q, k, v, low, high)  # [NQ, B, HK, G, block, D]
    return o.transpose(1, 0, 4, 2, 3, 5).reshape(batch, steps + pad_q, heads, dim)[:, :steps]


def even_block(steps: int, longest: int) -> int:
    """The length of as few blocks as can be, with little padding: 784 steps are 4 blocks of 200, not of 256."""
    if steps <= longest:
        return steps
    even = -(-steps // -(-steps // longest))
    return min(-(-even // 8) * 8, longest)


@jax.custom_vjp
def _attend(q: Array, k: Array, v: Array, low: Array, high: Array) -> Array:
    return _forward(q, k, v, low, high)[0]


def _scores(q_i: Array, k_j: Array, j: Array, low_i: Array, high_i: Array) -> Array:
    """Masked scores of one block of queries against one of keys: `[B, HK, G, block_q, block_kv]` float32."""
    scores = jnp.einsum("bkgqd,bksd->bkgqs", q_i, k_j, preferred_element_type=jnp.float32)
    slot = j * k_j.shape[2] + jnp.arange(k_j.shape[2])
    visible = (slot <= high_i[..., None]) & (slot >= low_i[..., None])
    return jnp.where(visible[:, None, None], scores, HIDDEN)


def _forward(q: Array, k: Array, v: Array, low: Array, high: Array) -> tuple[Array, Array]:
    blocks_kv, block_kv = k.shape[0], k.shape[3]

    def query_block(i: Array) -> tuple[Array, Array]:
        q_i, low_i, high_i = q[i], low[i], high[i]

        def kv_block(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            top, total, mean = carry
            scores = _scores(q_i, k[j], j, low_i, high_i)
            new_top = jnp.maximum(top, jnp.max(scores, axis=-1))
            weights = jnp.exp(scores - new_top[..., None])
            old = jnp.exp(top - new_top)
            total = old * total + jnp.sum(weights, axis=-1)
            values = jnp.einsum("bkgqs,bksd->bkgqd", weights.astype(v.dtype), v[j], preferred_element_type=jnp.float32)
            return new_top, total, old[..., None] * mean + values

        shape = q_i.shape[:-1]
        empty = (jnp.full(shape, HIDDEN, jnp.float32), jnp.zeros(shape, jnp.float32), jnp.zeros(q_i.shape, jnp.float32))
        end = jnp.minimum(jnp.max(high_i) // block_kv + 1, blocks_kv)
        top, total, mean = jax.lax.fori_loop(jnp.min(low_i) // block_kv, end, kv_block, empty)
        return (mean / total[..., None]).astype(q.dtype), top + jnp.log(total)

    return jax.lax.map(query_block, jnp.arange(q.shape[0]))


def _forward_rule(q: Array, k: Array, v: Array, low: Array, high: Array) -> tuple[Array, tuple[Array, ...]]:
    o, log_total = _forward(q, k, v, low, high)
    return o, (q, k, v, low, high, o, log_total)


def _backward_rule(saved: tuple[Array, ...], d_o: Array) -> tuple[Array | None, ...]:
    q, k, v, low, high, o, log_total = saved
    blocks_q, block_kv = q.shape[0], k.shape[3]
    lowest, highest = jnp.min(low, axis=(1, 2)), jnp.max(high, axis=(1, 2))
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    along = product("nbkgqd,nbkgqd->nbkgq", o, d_o)

    def kv_block(d_q: Array, j: Array) -> tuple[Array, tuple[Array, Array]]:
        k_j, v_j = k[j], v[j]

        def query_block(i: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            d_q, d_k, d_v = carry
            weights = jnp.exp(_scores(q[i], k_j, j, low[i], high[i]) - log_total[i][..., None])
            d_v = d_v + product("bkgqs,bkgqd->bksd", weights.astype(v.dtype), d_o[i])
            d_scores = weights * (product("bkgqd,bksd->bkgqs", d_o[i], v_j) - along[i][..., None])
            d_scores = d_scores.astype(q.dtype)
            d_k = d_k + product("bkgqs,bkgqd->bksd", d_scores, q[i])
            return d_q.at[i].add(product("bkgqs,bksd->bkgqd", d_scores, k_j)), d_k, d_v

        begin = jnp.min(jnp.where(highest >= j * block_kv, jnp.arange(blocks_q), blocks_q))
        end = jnp.max(jnp.where(lowest < (j + 1) * block_kv, jnp.arange(1, blocks_q + 1), 0))
        zeros = jnp.zeros(k_j.shape, jnp.float32)
        d_q, d_k, d_v = jax.lax.fori_loop(begin, end, query_block, (d_q, zeros, zeros))
        return d_q, (d_k.astype(k.dtype), d_v.astype(v.dtype))

    d_q, (d_k, d_v) = jax.lax.scan(kv_block, jnp.zeros(q.shape, jnp.float32), jnp.arange(k.shape[0]))
    return d_q.astype(q.dtype), d_k, d_v, None, None


_attend.defvjp(_forward_rule, _backward_rule)
