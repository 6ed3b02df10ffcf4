"""The public function, and the choice of a form for it."""

from collections.abc import Callable

from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.gated_delta_rule.reference import gated_delta_rule_reference
from qomni_jax.ops.gated_delta_rule.xla import gated_delta_rule_chunked

BACKENDS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "reference": lambda *args, chunk_size: gated_delta_rule_reference(*args),
    "xla": lambda *args, chunk_size: gated_delta_rule_chunked(*args, chunk_size=chunk_size),
}


def gated_delta_rule(
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    beta: Array,
    initial_state: Array | None = None,
    segment_ids: Array | None = None,
    *,
    backend: str = "auto",
    chunk_size: int = 64,
) -> tuple[Array, Array]:
    """Linear attention with a decaying state that is corrected, not summed (Gated DeltaNet, as in Qwen3-Next).

    Per value head, with S of [DK, DV]: `S <- exp(g) S;  S <- S + k (beta (v - k^T S))^T;  o = (DK^-0.5 q)^T S`.

    Args:
      q, k: `[B, T, HK, DK]`, usually L2-normalised.
      v: `[B, T, HV, DV]`; HV is a multiple of HK, value head j reads key head `j // (HV / HK)`.
      g: `[B, T, HV]`, log decay, at most 0.
      beta: `[B, T, HV]`, writing strength in 0..1.
      initial_state: `[B, HV, DK, DV]`, zeros when absent; the first segment goes on from it.
      segment_ids: `[B, T]` whole numbers; the state is reset where they change, so that sequences packed into one row
        do not see each other.
      backend: `reference` runs token by token, `xla` in chunks; `auto` takes the recurrence for one token, else chunks.
      chunk_size: tokens a chunk, a power of two; T need not be a multiple.

    Returns `(o [B, T, HV, DV] in v's type, final state [B, HV, DK, DV] float32)`.

    Raises:
      ValueError: head counts that do not divide, or an unknown backend.
    """
    batch, steps, key_heads, key_dim = q.shape
    value_heads, value_dim = v.shape[2:]
    if value_heads % key_heads:
        raise ValueError(
            f"gated_delta_rule: {value_heads} value heads: accepted is a multiple of {key_heads} key heads"
        )
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"gated_delta_rule: backend {backend!r}: accepted is auto, {', '.join(sorted(BACKENDS))}")
    if initial_state is None:
        initial_state = jnp.zeros((batch, value_heads, key_dim, value_dim), jnp.float32)
    if backend == "auto":
        backend = "reference" if steps == 1 else "xla"
    if segment_ids is None:
        segment_ids = jnp.zeros((batch, steps), jnp.int32)
    args = [x.astype(jnp.float32) for x in (q, k, v, g, beta, initial_state)]
    o, state = BACKENDS[backend](*args, segment_ids, chunk_size=chunk_size)
    return o.astype(v.dtype), state
