"""Top-k routing with a load-balancing loss."""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp


class Routing(NamedTuple):
    """Where each token goes. `experts`, `weights` are `[N, k]`; the rest are sums over tokens for loss and metrics."""

    experts: Array  # int32
    weights: Array  # float32, sum to 1 over k
    chosen: Array  # [E] how many (masked) tokens chose the expert
    probability: Array  # [E] sum of router probabilities over (masked) tokens
    tokens: Array  # [] how many tokens count


def route(logits: Array, top_k: int, mask: Array) -> Routing:
    """Softmax over all experts in float32, top-k, renormalise: `logits [N, E]`, `mask [N]` (1 counts) -> `Routing`.

    Source: Qwen3.5 sparse block (normalised top-k probabilities).
    """
    probabilities = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    weights, experts = jax.lax.top_k(probabilities, top_k)
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    mask = mask.astype(jnp.float32)
    one_hot = jax.nn.one_hot(experts, logits.shape[-1], dtype=jnp.float32)
    chosen = jnp.einsum("nke,n->e", one_hot, mask)
    return Routing(experts, weights, chosen, jnp.einsum("ne,n->e", probabilities, mask), jnp.sum(mask))


def load_balancing_loss(chosen: Array, probability: Array, tokens: Array) -> Array:
    """E * sum_e f_e P_e over shares of tokens, `[..., E], [..., E], [...] -> [...]`; k when the load is balanced."""
    tokens = jnp.maximum(tokens, 1.0)[..., None]
    return chosen.shape[-1] * jnp.sum(chosen / tokens * probability / tokens, axis=-1)
