"""The mixture's contract: every expert on every token, then a mask."""

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.precision import at_least_float32, wide


def expert_mlp_reference(
    x: Array, experts: Array, weights: Array, gate_up: Array, down: Array, block_size: int
) -> Array:
    """As `api.expert_mlp`; E / k times the work."""
    del block_size
    hidden = jnp.einsum("nd,edf->enf", x, gate_up, preferred_element_type=wide(x.dtype))
    gate, up = jnp.split(hidden, 2, axis=-1)
    chosen = jax.nn.one_hot(experts, gate_up.shape[0], dtype=wide(x.dtype))
    share = jnp.einsum("nke,nk->en", chosen, at_least_float32(weights))
    scaled = (jax.nn.silu(gate) * up * share[..., None]).astype(x.dtype)
    return jnp.einsum("enf,efd->nd", scaled, down, preferred_element_type=wide(x.dtype)).astype(x.dtype)
