"""Top-k routing, the load-balancing loss, and what to watch of a router."""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.precision import at_least_float32


class Routing(NamedTuple):
    """Where each token goes. `experts`, `weights` are `[N, k]`; the rest are sums over tokens for loss and metrics."""

    experts: Array  # int32
    weights: Array  # float32, sum to 1 over k when normalised
    chosen: Array  # [E] how many (masked) tokens chose the expert
    probability: Array  # [E] sum of router probabilities over (masked) tokens
    tokens: Array  # [] how many tokens count


def route(logits: Array, top_k: int, mask: Array, *, normalize: bool = True) -> Routing:
    """Softmax over all experts in float32, then top-k: `logits [N, E]`, `mask [N]` (1 counts) -> `Routing`.

    `normalize` scales the chosen probabilities to sum to 1 (Qwen3.5 always; `norm_topk_prob` of Qwen3-Next and
    Qwen3-Omni).
    """
    probabilities = jax.nn.softmax(at_least_float32(logits), axis=-1)
    weights, experts = jax.lax.top_k(probabilities, top_k)
    if normalize:
        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    mask = mask.astype(probabilities.dtype)
    one_hot = jax.nn.one_hot(experts, logits.shape[-1], dtype=mask.dtype)
    chosen = jnp.einsum("nke,n->e", one_hot, mask)
    return Routing(experts, weights, chosen, jnp.einsum("ne,n->e", probabilities, mask), jnp.sum(mask))


def load_balancing_loss(chosen: Array, probability: Array, tokens: Array) -> Array:
    """E * sum_e f_e P_e over shares of tokens, `[..., E], [..., E], [...] -> [...]`; k when the load is balanced."""
    tokens = jnp.maximum(tokens, 1.0)[..., None]
    return chosen.shape[-1] * jnp.sum(chosen / tokens * probability / tokens, axis=-1)


def pooled_load_balancing_loss(chosen: Array, probability: Array, tokens: Array) -> Array:
    """The released models' loss: f and P are shares over the tokens of all layers, `[L, E], [L, E], [L] -> []`.

    Source: Qwen3.5, `router_aux_loss_coef`. Two layers with opposite preferences balance each other here; the mean
    over layers of `load_balancing_loss` does not allow that.
    """
    return load_balancing_loss(jnp.sum(chosen, axis=0), jnp.sum(probability, axis=0), jnp.sum(tokens))


def router_metrics(chosen: Array, probability: Array, tokens: Array) -> dict[str, Array]:
    """What to watch of all routers, from sums over tokens per layer, `[L, E], [L, E], [L]`; nothing without experts.

    `router_load [E]`: each expert's share of all choices, over layers; `router_max_load`, `router_min_load`: the
    largest and smallest share that any expert has in any layer (1 / E when balanced); `router_entropy`: entropy of a
    layer's shares, `router_probability_entropy`: of its mean probabilities, both the mean over layers in nats (log E
    when balanced).
    """
    if not chosen.size:
        return {}
    load = chosen / jnp.maximum(jnp.sum(chosen, axis=-1, keepdims=True), 1.0)
    mean = probability / jnp.maximum(tokens, 1.0)[..., None]
    return {
        "router_load": jnp.mean(load, axis=0),
        "router_max_load": jnp.max(load),
        "router_min_load": jnp.min(load),
        "router_entropy": jnp.mean(_entropy(load)),
        "router_probability_entropy": jnp.mean(_entropy(mean)),
    }


def _entropy(shares: Array) -> Array:
    return -jnp.sum(jax.scipy.special.xlogy(shares, shares), axis=-1)
