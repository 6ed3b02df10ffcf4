"""The recurrence, token by token: the contract that every other form meets."""

import jax
from jax import Array
import jax.numpy as jnp


def gated_delta_rule_reference(
    q: Array, k: Array, v: Array, g: Array, beta: Array, initial_state: Array, segment_ids: Array
) -> tuple[Array, Array]:
    """Shapes as in `api.gated_delta_rule`, all float32."""
    group = v.shape[2] // q.shape[2]
    scale = q.shape[-1] ** -0.5

    def step(state: Array, inputs: tuple[Array, ...]) -> tuple[Array, Array]:
        q_t, k_t, v_t, g_t, beta_t, fresh = inputs
        q_t, k_t = (jnp.repeat(x, group, axis=1) for x in (q_t, k_t))
        state = jnp.where(fresh[:, None, None, None], 0.0, jnp.exp(g_t)[..., None, None] * state)
        error = v_t - jnp.einsum("bhk,bhkv->bhv", k_t, state)
        state = state + jnp.einsum("bhk,bhv->bhkv", k_t, beta_t[..., None] * error)
        return state, jnp.einsum("bhk,bhkv->bhv", scale * q_t, state)

    fresh = jnp.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) != 0
    time_first = tuple(jnp.moveaxis(x, 1, 0) for x in (q, k, v, g, beta, fresh))
    state, o = jax.lax.scan(step, initial_state, time_first)
    return jnp.moveaxis(o, 0, 1), state
