"""One token, or a few, from a cached state: the form for decoding.

The state is read once for k and q together and written once: with u = beta (v - e^g k^T S), o = e^g q^T S + (q k) u and
S' = e^g S + k u^T. A caller that jits it donates its cache, and the state is then updated in place.
"""

from typing import Any

import jax
from jax import Array
import jax.numpy as jnp

UNROLLED = 8  # tokens that are laid out one after the other; more of them run in a scan


def gated_delta_rule_step(
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    beta: Array,
    initial_state: Array,
    segment_ids: Array | None,
    *,
    chunk_size: int,
) -> tuple[Array, Array]:
    """Shapes as in `api.gated_delta_rule`; there are no chunks, `chunk_size` is not used."""
    del chunk_size
    group = v.shape[2] // q.shape[2]
    keys = jnp.stack([k, q * q.shape[-1] ** -0.5], axis=3).astype(jnp.float32)  # [B, T, HK, 2, DK]
    keys = jnp.repeat(keys, group, axis=2) if group > 1 else keys
    decay = jnp.exp(g.astype(jnp.float32))
    if segment_ids is not None:
        fresh = jnp.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) != 0
        decay = jnp.where(fresh[..., None], 0.0, decay)
    tokens = (keys, v.astype(jnp.float32), decay, beta.astype(jnp.float32))
    state = initial_state.astype(jnp.float32)
    if v.shape[1] <= UNROLLED:
        outputs = []
        for t in range(v.shape[1]):
            state, o = _token(state, tuple(x[:, t] for x in tokens))
            outputs.append(o)
        o = jnp.stack(outputs, axis=1)
    else:
        state, o = jax.lax.scan(_token, state, jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), tokens))
        o = jnp.moveaxis(o, 0, 1)
    return o.astype(v.dtype), state


def _token(state: Array, inputs: tuple[Any, ...]) -> tuple[Array, Array]:
    keys, v, decay, beta = inputs
    decay = decay[..., None]
    k, q = keys[..., 0, :], keys[..., 1, :]
    read = jnp.einsum("bhnk,bhkv->bhnv", keys, state, precision=jax.lax.Precision.HIGHEST)
    update = beta[..., None] * (v - decay * read[..., 0, :])
    o = decay * read[..., 1, :] + jnp.sum(q * k, axis=-1, keepdims=True) * update
    return decay[..., None] * state + k[..., None] * update[..., None, :], o
