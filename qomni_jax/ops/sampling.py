"""Drawing a class from logits."""

import jax
from jax import Array
import jax.numpy as jnp


def sample(logits: Array, keys: Array, *, temperature: float, top_k: int) -> Array:
    """Draws one class a row: `logits [B, K]` (-inf forbids a class), `keys [B]` PRNG keys -> int32 `[B]`.

    Temperature 0 is greedy. `top_k` keeps that many classes (0 or >= K keeps all). Each row has its own key, so that a
    row's draw does not depend on the batch it is in.
    """
    if temperature == 0.0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    if 0 < top_k < logits.shape[-1]:
        kth = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    return jax.vmap(jax.random.categorical)(keys, logits / temperature).astype(jnp.int32)
