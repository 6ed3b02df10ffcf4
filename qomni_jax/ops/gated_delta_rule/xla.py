"""The chunked (WY) form in plain XLA: matrix products inside a chunk, a scan over chunks.

With G the running sum of g in a chunk and D_ij = exp(G_i - G_j) for j <= i, let L be the strictly lower part of
(beta K K^T) * D. Then V_new = (I + L)^-1 (beta V - (beta K e^G) S), O = (Q e^G) S + ((Q K^T) * D) V_new and
S <- e^(G_last) S + (K e^(G_last - G))^T V_new. Where segments change, D, e^G and e^(G_last - G) are cut to zero.
"""

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np


def gated_delta_rule_chunked(
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    beta: Array,
    initial_state: Array,
    segment_ids: Array,
    *,
    chunk_size: int,
) -> tuple[Array, Array]:
    """Shapes as in `api.gated_delta_rule`, all float32. Raises ValueError unless `chunk_size` is a power of two."""
    if chunk_size < 1 or chunk_size & (chunk_size - 1):
        raise ValueError(f"gated_delta_rule: chunk_size {chunk_size}: accepted is a power of two")
    batch, steps, key_heads, key_dim = q.shape
    value_heads, value_dim = v.shape[2:]
    group = value_heads // key_heads
    chunk = min(chunk_size, 1 << (steps - 1).bit_length())
    padding = -steps % chunk
    chunks = (steps + padding) // chunk

    def split(x: Array, *heads: int) -> Array:
        """[B, T, H, ...] -> [N, B, *heads, C, ...]; the zeros that pad a tail leave the state as it is."""
        x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2))
        x = x.reshape(batch, chunks, chunk, *heads, *x.shape[3:])
        return jnp.moveaxis(jnp.moveaxis(x, 1, 0), 2, 2 + len(heads))

    q = split(q * key_dim**-0.5, key_heads)
    k = split(k, key_heads)
    v = split(v, key_heads, group)
    g = split(g, key_heads, group)
    beta = split(beta, key_heads, group)

    segments = jnp.pad(segment_ids, ((0, 0), (0, padding)), mode="edge").reshape(batch, chunks, chunk)
    segments = jnp.moveaxis(segments, 1, 0)[:, :, None, None]  # [N, B, 1, 1, C]
    before = jnp.concatenate([segments[:1, ..., :1], segments[:-1, ..., -1:]])  # the segment that the state belongs to
    lower = np.tril(np.ones((chunk, chunk), bool))
    visible = lower & (segments[..., :, None] == segments[..., None, :])
    cumulative = jnp.cumsum(g, axis=-1)
    difference = cumulative[..., :, None] - cumulative[..., None, :]
    decay = jnp.where(visible, jnp.exp(jnp.where(lower, difference, 0.0)), 0.0)
    weighted = beta[..., None] * decay * jnp.einsum("nbhcd,nbhed->nbhce", k, k)[:, :, :, None]
    inverse = unit_lower_inverse(jnp.where(np.tril(lower, -1), weighted, 0.0))
    scores = decay * jnp.einsum("nbhcd,nbhed->nbhce", q, k)[:, :, :, None]
    from_start = jnp.where(segments == before, jnp.exp(cumulative), 0.0)
    to_end = jnp.where(segments == segments[..., -1:], jnp.exp(cumulative[..., -1:] - cumulative), 0.0)
    values = jnp.einsum("nbhgce,nbhgev->nbhgcv", inverse, beta[..., None] * v)
    reads = jnp.einsum("nbhgce,nbhge,nbhed->nbhgcd", inverse, beta * from_start, k)

    def step(state: Array, inputs: tuple[Array, ...]) -> tuple[Array, Array]:
        q_n, k_n, values_n, reads_n, scores_n, from_start_n, to_end_n = inputs
        new = values_n - jnp.einsum("bhgcd,bhgdv->bhgcv", reads_n, state)
        o = from_start_n[..., None] * jnp.einsum("bhcd,bhgdv->bhgcv", q_n, state)
        o = o + jnp.einsum("bhgce,bhgev->bhgcv", scores_n, new)
        state = from_start_n[..., -1, None, None] * state
        return state + jnp.einsum("bhcd,bhgcv->bhgdv", k_n, to_end_n[..., None] * new), o

    state = initial_state.reshape(batch, key_heads, group, key_dim, value_dim)
    state, o = jax.lax.scan(step, state, (q, k, values, reads, scores, from_start, to_end))
    o = jnp.moveaxis(o, (0, 4), (1, 2)).reshape(batch, chunks * chunk, value_heads, value_dim)
    return o[:, :steps], state.reshape(initial_state.shape)


def unit_lower_inverse(lower: Array) -> Array:
    """(I + L)^-1 for strictly lower-triangular `L [..., C, C]`, C a power of two, by masked block doubling.

    Inverses of the diagonal blocks of width b become those of width 2b: X <- X - X L_b X, with L_b the part of L that
    joins two neighbours. No power of L is formed, so correlated keys do not blow it up as a Neumann series does.
    """
    size = lower.shape[-1]
    index = np.arange(size)
    inverse = jnp.broadcast_to(jnp.eye(size, dtype=lower.dtype), lower.shape)
    block = 1
    while block < size:
        same_pair = index[:, None] // (2 * block) == index // (2 * block)
        joins = same_pair & (index[:, None] // block > index // block)
        joined = jnp.where(joins, lower, 0.0)
        inverse = inverse - (inverse @ joined @ inverse if block > 1 else joined)
        block *= 2
    return inverse
