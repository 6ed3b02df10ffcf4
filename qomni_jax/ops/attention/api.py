"""The public function, and the choice of a form for it."""

import jax
from jax import Array
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from qomni_jax.ops.attention.pallas_tpu import attention_pallas_tpu
from qomni_jax.ops.attention.reference import attention_reference
from qomni_jax.ops.attention.xla import attention_blocked

BACKENDS = ("reference", "xla", "pallas_tpu")
# Scores of one head that are cheaper to hold than to compute block by block.
_DIRECT_SCORES = 512 * 512
_DIRECT_STEPS = 16


def grouped_query_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    start: Array | None = None,
    first: Array | None = None,
    segment_ids: Array | None = None,
    backend: str = "auto",
) -> Array:
    """Causal softmax attention, scale D^-0.5, softmax in float32.

    Args:
      q: `[B, T, H, D]`.
      k, v: `[B, S, HK, D]`, H a multiple of HK; query head j reads key head `j // (H / HK)`.
      start: `[B]`, for keys out of a cache: query t of row b stands at slot `start[b] + t` and sees the slots up to its
        own. None: queries and keys are the same tokens, S = T.
      first: `[B]`, the first slot that holds a token, 0 when absent. Padding before it is not seen and gets 0.
      segment_ids: `[B, T]` without `start`; a query sees its own run of equal ids alone.
      backend: `reference` (all scores at once), `xla` (blocks with a running softmax, linear memory forward and
        backward), `pallas_tpu` (the splash attention kernel that ships with jax; with `start`, `xla` runs); `auto` is
        `pallas_tpu` on a TPU, else `reference` for few scores and `xla` for many.

    Returns `[B, T, H, D]` in q's type. What rematerialisation has to keep for the backward pass to do without a second
    forward pass carries the name `attention_out`: the result, or the kernel's residuals, once.

    Raises:
      ValueError: heads that do not divide, an unknown backend, S that is not T without `start`, or both `start` and
        `segment_ids`.
    """
    batch, steps, heads, _ = q.shape
    slots, kv_heads = k.shape[1:3]
    if heads % kv_heads:
        raise ValueError(f"attention: {heads} query heads: accepted is a multiple of {kv_heads} key heads")
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"attention: backend {backend!r}: accepted is auto, {', '.join(BACKENDS)}")
    if start is None and slots != steps:
        raise ValueError(f"attention: {slots} keys for {steps} queries: accepted without `start` is as many")
    if start is not None and segment_ids is not None:
        raise ValueError("attention: segment_ids with start: accepted is one of them")
    offset = jnp.zeros(batch, jnp.int32) if start is None else start.astype(jnp.int32)
    slot = offset[:, None] + jnp.arange(steps, dtype=jnp.int32)
    low = _first_visible(slot, first, segment_ids)
    if backend == "auto":
        backend = "pallas_tpu" if jax.default_backend() == "tpu" else "xla"
        if steps <= _DIRECT_STEPS or (backend == "xla" and steps * slots <= _DIRECT_SCORES):
            backend = "reference"
    if backend == "pallas_tpu" and start is None:
        o = attention_pallas_tpu(q, k, v, low)
    elif backend == "reference":
        o = checkpoint_name(attention_reference(q, k, v, offset, low), "attention_out")
    else:
        o = checkpoint_name(attention_blocked(q, k, v, offset, low), "attention_out")
    return o if first is None else jnp.where((slot < first[:, None])[..., None, None], 0, o)


def _first_visible(slot: Array, first: Array | None, segment_ids: Array | None) -> Array:
    """`[B, T]` int32: the first slot that each query sees. No query sees nothing: padding sees padding."""
    low = jnp.zeros_like(slot)
    if segment_ids is not None:
        changed = jnp.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) != 0
        low = jax.lax.cummax(jnp.where(changed, slot, 0), axis=1)
    if first is not None:
        low = jnp.where(slot < first[:, None], 0, jnp.maximum(low, first[:, None].astype(jnp.int32)))
    return low
