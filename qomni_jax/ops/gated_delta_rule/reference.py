"""The recurrence, token by token: the contract that every other form meets."""

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.precision import at_least_float32


def gated_delta_rule_reference(
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    beta: Array,
    initial_state: Array,
    segment_ids: Array | None = None,
    *,
    chunk_size: int = 1,
) -> tuple[Array, Array]:
    """Shapes as in `api.gated_delta_rule`; any float type in, float32 or better inside. `chunk_size` is not used."""
    del chunk_size
    group = v.shape[2] // q.shape[2]
    scale = q.shape[-1] ** -0.5

    def step(state: Array, inputs: tuple[Array, ...]) -> tuple[Array, Array]:
        q_t, k_t, v_t, g_t, beta_t, fresh = inputs
        q_t, k_t = (jnp.repeat(x, group, axis=1) for x in (q_t, k_t))
        state = jnp.where(fresh[:, None, None, None], 0.0, jnp.exp(g_t)[..., None, None] * state)
        error = v_t - jnp.einsum("bhk,bhkv->bhv", k_t, state)
        state = state + jnp.einsum("bhk,bhv->bhkv", k_t, beta_t[..., None] * error)
        return state, jnp.einsum("bhk,bhkv->bhv", scale * q_t, state)

    if segment_ids is None:
        segment_ids = jnp.zeros(v.shape[:2], jnp.int32)
    fresh = jnp.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) != 0
    tokens = (*(at_least_float32(x) for x in (q, k, v, g, beta)), fresh)
    state, o = jax.lax.scan(step, at_least_float32(initial_state), tuple(jnp.moveaxis(x, 1, 0) for x in tokens))
    return jnp.moveaxis(o, 0, 1).astype(v.dtype), state
