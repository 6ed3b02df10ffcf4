"""Drawing a class from logits."""

import jax
from jax import Array
import jax.numpy as jnp


def sample(
    logits: Array, keys: Array, *, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> Array:
    """Draws one class a row: `logits [B, K]` (-inf forbids a class), `keys [B]` PRNG keys -> int32 `[B]`.

    Settings as in `config.sampling.SamplingConfig`; `top_p` sums over what `top_k` has kept, scaled to 1, and classes
    that are equally likely stay or go together. Each row has its own key, so that a row's draw does not depend on the
    batch it is in.
    """
    if temperature == 0.0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / temperature
    cuts = 0 < top_k < logits.shape[-1]
    if cuts or top_p < 1.0:
        best = jax.lax.top_k(logits, top_k if cuts else logits.shape[-1])[0]
        if top_p < 1.0:
            probability = jax.nn.softmax(best, axis=-1)
            better = jnp.cumsum(probability, axis=-1) - probability
            best = jnp.where(better < top_p, best, jnp.inf)
        logits = jnp.where(logits < jnp.min(best, axis=-1, keepdims=True), -jnp.inf, logits)
    if min_p > 0.0:
        least = jnp.max(logits, axis=-1, keepdims=True) + jnp.log(min_p)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def penalize_repetition(logits: Array, said: Array, penalty: float) -> Array:
    """`logits [B, K]` with those of classes that were `said [B, K]` made less likely (CTRL, arXiv 1909.05858)."""
    return jnp.where(said, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)
