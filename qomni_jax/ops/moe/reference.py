"""The mixture's contract: every expert on every token, then a mask."""

import jax
from jax import Array
import jax.numpy as jnp


def expert_mlp_reference(
    x: Array, experts: Array, weights: Array, gate_up: Array, down: Array, block_size: int
) -> Array:
    """As `api.expert_mlp`; E / k times the work."""
    del block_size
    hidden = jnp.einsum("nd,edf->enf", x, gate_up, preferred_element_type=jnp.float32)
    gate, up = jnp.split(hidden, 2, axis=-1)
    chosen = jax.nn.one_hot(experts, gate_up.shape[0], dtype=jnp.float32)
    share = jnp.einsum("nke,nk->en", chosen, weights.astype(jnp.float32))
    scaled = (jax.nn.silu(gate) * up * share[..., None]).astype(x.dtype)
    return jnp.einsum("enf,efd->nd", scaled, down, preferred_element_type=jnp.float32).astype(x.dtype)
