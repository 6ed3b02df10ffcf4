"""The public functions, and the choice of a form for them."""

import jax
from jax import Array
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from qomni_jax.ops.attention.cached import CACHE_BLOCK, attention_cached
from qomni_jax.ops.attention.pallas_tpu import attention_pallas_tpu
from qomni_jax.ops.attention.reference import attention_reference
from qomni_jax.ops.attention.xla import BIDIRECTIONAL_BLOCK, BLOCK, attention_blocked

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
    window: int | None = None,
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
      window: with `start`; a query sees its own slot and the `window - 1` before it. None: all before it.
      backend: `reference` (all scores at once), `xla` (blocks with a running softmax, linear memory forward and
        backward), `pallas_tpu` (the splash attention kernel that ships with jax; with `start`, `xla` runs); `auto` is
        `pallas_tpu` on a TPU, else `reference` for few scores and `xla` for many.

    Returns `[B, T, H, D]` in q's type. What rematerialisation has to keep for the backward pass to do without a second
    forward pass carries the name `attention_out`: the result, or the kernel's residuals, once.

    Raises:
      ValueError: heads that do not divide, an unknown backend, S that is not T without `start`, both `start` and
        `segment_ids`, or a `window` without `start` or below 1.
    """
    batch, steps, heads, _ = q.shape
    slots, kv_heads = k.shape[1:3]
    if heads % kv_heads:
        raise ValueError(f"attention: {heads} query heads: accepted is a multiple of {kv_heads} key heads")
    if start is None and slots != steps:
        raise ValueError(f"attention: {slots} keys for {steps} queries: accepted without `start` is as many")
    if start is not None and segment_ids is not None:
        raise ValueError("attention: segment_ids with start: accepted is one of them")
    if window is not None and (start is None or window < 1):
        raise ValueError(f"attention: window {window}: accepted is 1 or more slots, with start")
    offset = jnp.zeros(batch, jnp.int32) if start is None else start.astype(jnp.int32)
    slot = offset[:, None] + jnp.arange(steps, dtype=jnp.int32)
    low = _first_visible(slot, first, segment_ids)
    low = low if window is None else jnp.maximum(low, slot - (window - 1))
    form = _form(backend, steps, slots)
    form = "xla" if form == "pallas_tpu" and start is not None else form
    o = _attend(form, q, k, v, low, slot, causal=True)
    return o if first is None else jnp.where((slot < first[:, None])[..., None, None], 0, o)


def attention_over_cache(
    q: Array, keys: Array, values: Array, *, start: Array, first: Array | None = None, backend: str = "auto"
) -> Array:
    """`grouped_query_attention` of `q [B, T, H, D]` on a cache as it lies, `keys, values [B, HK, S, D]`.

    With `auto`, few queries on a cache of many slots read only those that are in use; on a TPU they read all. Raises
    ValueError as there.
    """
    steps, slots = q.shape[1], keys.shape[2]
    short = steps <= _DIRECT_STEPS and slots > 2 * CACHE_BLOCK and jax.default_backend() != "tpu"
    if backend != "auto" or not short:
        k, v = (jnp.swapaxes(x, 1, 2) for x in (keys, values))
        return grouped_query_attention(q, k, v, start=start, first=first, backend=backend)
    slot = start.astype(jnp.int32)[:, None] + jnp.arange(steps, dtype=jnp.int32)
    o = attention_cached(q, keys, values, _first_visible(slot, first, None), slot)
    return o if first is None else jnp.where((slot < first[:, None])[..., None, None], 0, o)


def bidirectional_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    lengths: Array | None = None,
    window: int | Array | None = None,
    backend: str = "auto",
) -> Array:
    """Softmax attention of the tokens of a row on each other, scale D^-0.5, softmax in float32.

    Args:
      q, k, v: `[R, L, H, D]`.
      lengths: `[R]` tokens a row. What follows is padding: it is not seen and gets 0. None: all are tokens.
      window: token t sees those of its block `t // window` alone. As an int, blocks become rows and the cost is linear
        in L; as a traced whole number, one program serves every window. None: the whole row.
      backend: as in `grouped_query_attention`.

    Returns `[R, L, H, D]` in q's type; names for rematerialisation as in `grouped_query_attention`.

    Raises ValueError for arrays of different shapes, an unknown backend, or an int window below 1.
    """
    rows, steps = q.shape[:2]
    if not q.shape == k.shape == v.shape:
        raise ValueError(f"attention: q {q.shape}, k {k.shape}, v {v.shape}: accepted are equal shapes")
    lengths = jnp.full(rows, steps, jnp.int32) if lengths is None else lengths.astype(jnp.int32)
    if isinstance(window, int) and window < 1:
        raise ValueError(f"attention: window {window}: accepted is 1 or more tokens")
    if isinstance(window, int) and window < steps:
        blocks = -(-steps // window)
        padding = ((0, 0), (0, blocks * window - steps), (0, 0), (0, 0))
        q, k, v = (jnp.pad(x, padding).reshape(rows * blocks, window, *x.shape[2:]) for x in (q, k, v))
        inside = jnp.clip(lengths[:, None] - window * jnp.arange(blocks), 0, window).reshape(-1)
        o = bidirectional_attention(q, k, v, lengths=inside, backend=backend)
        return o.reshape(rows, blocks * window, *q.shape[2:])[:, :steps]
    at, end = jnp.arange(steps, dtype=jnp.int32), lengths[:, None]
    first = jnp.zeros_like(at) if window is None else at // window * window
    last = jnp.full_like(at, steps - 1) if window is None else first + window - 1
    real = at < end
    # Padding sees padding: no query sees nothing.
    low = jnp.where(real, first, end)
    high = jnp.where(real, jnp.minimum(last, end - 1), steps - 1)
    o = _attend(_form(backend, steps, steps), q, k, v, low, high, causal=False)
    return jnp.where(real[..., None, None], o, 0)


def _form(backend: str, steps: int, slots: int) -> str:
    """What `auto` stands for with that many queries and keys; another backend is itself."""
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"attention: backend {backend!r}: accepted is auto, {', '.join(BACKENDS)}")
    if backend != "auto":
        return backend
    backend = "pallas_tpu" if jax.default_backend() == "tpu" else "xla"
    few = steps <= _DIRECT_STEPS or (backend == "xla" and steps * slots <= _DIRECT_SCORES)
    return "reference" if few else backend


def _attend(form: str, q: Array, k: Array, v: Array, low: Array, high: Array, *, causal: bool) -> Array:
    """Query t of row b sees the slots `low[b, t] .. high[b, t]`."""
    if form == "pallas_tpu":
        return attention_pallas_tpu(q, k, v, low, causal=causal)
    if form == "reference":
        o = attention_reference(q, k, v, low, high)
    else:
        block = BLOCK if causal else BIDIRECTIONAL_BLOCK
        o = attention_blocked(q, k, v, low, high, block_q=block, block_kv=block)
    return checkpoint_name(o, "attention_out")


def _first_visible(slot: Array, first: Array | None, segment_ids: Array | None) -> Array:
    """`[B, T]` int32: the first slot that each query sees. No query sees nothing: padding sees padding."""
    low = jnp.zeros_like(slot)
    if segment_ids is not None:
        changed = jnp.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) != 0
        low = jax.lax.cummax(jnp.where(changed, slot, 0), axis=1)
    if first is not None:
        low = jnp.where(slot < first[:, None], 0, jnp.maximum(low, first[:, None].astype(jnp.int32)))
    return low
