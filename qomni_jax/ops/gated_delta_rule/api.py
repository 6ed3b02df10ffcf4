"""The public function: what it accepts, and the choice of a form for it."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.gated_delta_rule.reference import gated_delta_rule_reference
from qomni_jax.ops.gated_delta_rule.step import gated_delta_rule_step
from qomni_jax.ops.gated_delta_rule.xla import gated_delta_rule_chunked
from qomni_jax.ops.norms import l2_normalize
from qomni_jax.ops.precision import at_least_float32, wide
from qomni_jax.ops.segments import require_segments_in_order

DECODE_STEPS = 4  # tokens up to which `auto` takes the recurrence


def _pallas_tpu(*args: Any, chunk_size: int) -> tuple[Array, Array]:
    # Pallas takes a second to import, which a program that never runs it need not wait for.
    from qomni_jax.ops.gated_delta_rule.pallas_tpu import gated_delta_rule_pallas_tpu

    return gated_delta_rule_pallas_tpu(*args, chunk_size=chunk_size)


BACKENDS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "reference": gated_delta_rule_reference,
    "xla": gated_delta_rule_chunked,
    "pallas_tpu": _pallas_tpu,
    "step": gated_delta_rule_step,
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
    normalize: bool = False,
) -> tuple[Array, Array]:
    """Linear attention with a decaying state that is corrected, not summed (Gated DeltaNet, as in Qwen3-Next).

    Per value head, with S of [DK, DV]: `S <- exp(g) S;  S <- S + k (beta (v - k^T S))^T;  o = (DK^-0.5 q)^T S`.
    Differentiable in every array but `segment_ids`; gates, states and sums are float32 whatever q, k and v are.

    Args:
      q, k: `[B, T, HK, DK]`, of unit length, or see `normalize`.
      v: `[B, T, HV, DV]`; HV is a multiple of HK, value head j reads key head `j // (HV / HK)`.
      g: `[B, T, HV]`, log decay, at most 0.
      beta: `[B, T, HV]`, writing strength in 0..1.
      initial_state: `[B, HV, DK, DV]`, zeros when absent; the first segment goes on from it.
      segment_ids: `[B, T]` whole numbers that never decrease along a row; the state is reset where they change, so that
        sequences packed into one row do not see each other.
      backend: `reference` is the recurrence as a scan; `xla` runs in chunks, for CPUs and GPUs; `pallas_tpu` runs
        kernels (interpreted, slowly, on anything but a TPU); `step` is the recurrence for decoding. `auto` takes `step`
        for up to 4 tokens, else kernels on a TPU and chunks elsewhere.
      chunk_size: the most tokens of a chunk, a power of two; a form may take another. T need not be a multiple.
      normalize: q and k are scaled to unit length first, as `ops.norms.l2_normalize` does; `xla` does it chunk by
        chunk and holds no second copy of them.

    Returns `(o [B, T, HV, DV] in v's type, final state [B, HV, DK, DV] float32)`.

    Raises:
      ValueError: no tokens, shapes that do not agree, value heads that are no multiple of the key heads, segment ids
        that decrease (seen only outside `jit`), a chunk size that is no power of two, an unknown backend.
    """
    _check(q, k, v, g, beta, initial_state, segment_ids, backend, chunk_size)
    if initial_state is None:
        initial_state = jnp.zeros((v.shape[0], v.shape[2], q.shape[3], v.shape[3]), wide(v.dtype))
    backend = resolve_backend(backend, q.shape[1])
    gates = (at_least_float32(g), at_least_float32(beta), at_least_float32(initial_state))
    if backend == "xla" and normalize:
        return gated_delta_rule_chunked(q, k, v, *gates, segment_ids, chunk_size=chunk_size, normalize=True)
    if normalize:
        q, k = l2_normalize(q), l2_normalize(k)
    return BACKENDS[backend](q, k, v, *gates, segment_ids, chunk_size=chunk_size)


def resolve_backend(backend: str, steps: int) -> str:
    """The form that `backend` stands for with this many tokens."""
    if backend != "auto":
        return backend
    if steps <= DECODE_STEPS:
        return "step"
    return "pallas_tpu" if jax.default_backend() == "tpu" else "xla"


def _check(q, k, v, g, beta, initial_state, segment_ids, backend, chunk_size) -> None:
    def require(condition: bool, what: str, accepted: str) -> None:
        if not condition:
            raise ValueError(f"gated_delta_rule: {what}: accepted is {accepted}")

    require(backend in ("auto", *BACKENDS), f"backend {backend!r}", f"auto, {', '.join(BACKENDS)}")
    require(chunk_size > 0 and chunk_size & (chunk_size - 1) == 0, f"chunk_size {chunk_size}", "a power of two")
    require(q.ndim == 4, f"q {q.shape}", "[B, T, HK, DK]")
    batch, steps, key_heads, key_dim = q.shape
    require(k.shape == q.shape, f"k {k.shape}", f"the shape of q, {q.shape}")
    require(v.ndim == 4 and v.shape[:2] == (batch, steps), f"v {v.shape}", f"[{batch}, {steps}, HV, DV]")
    value_heads, value_dim = v.shape[2:]
    require(steps > 0, "no tokens", "at least one")
    require(
        key_heads > 0 and value_heads > 0 and value_heads % key_heads == 0,
        f"{value_heads} value heads",
        f"a multiple of {key_heads} key heads",
    )
    for name, x, shape in (
        ("g", g, (batch, steps, value_heads)),
        ("beta", beta, (batch, steps, value_heads)),
        ("initial_state", initial_state, (batch, value_heads, key_dim, value_dim)),
        ("segment_ids", segment_ids, (batch, steps)),
    ):
        require(x is None or x.shape == shape, f"{name} {None if x is None else x.shape}", str(list(shape)))
    require_segments_in_order(segment_ids, "gated_delta_rule")
