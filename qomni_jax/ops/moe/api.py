"""SwiGLU experts applied to routed tokens: the public function, and the choice of a form for it."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from qomni_jax.ops.moe.blocked import expert_mlp_blocked
from qomni_jax.ops.moe.reference import expert_mlp_reference
from qomni_jax.ops.moe.xla import expert_mlp_xla


def _pallas_tpu(*args: Any) -> Array:
    # Pallas takes a second to import, which a program that never runs it need not wait for.
    from qomni_jax.ops.moe.pallas_tpu import expert_mlp_pallas_tpu

    return expert_mlp_pallas_tpu(*args)


BACKENDS: dict[str, Callable[..., Array]] = {
    "blocked": expert_mlp_blocked,
    "pallas_tpu": _pallas_tpu,
    "reference": expert_mlp_reference,
    "xla": expert_mlp_xla,
}


def expert_mlp(
    x: Array,
    experts: Array,
    weights: Array,
    gate_up: Array,
    down: Array,
    *,
    backend: str = "auto",
    block_size: int = 64,
) -> Array:
    """Weighted sum over each token's experts of `down(silu(gate x) * up x)`; no token is ever dropped.

    `x [N, D]`, `experts [N, k]` int, `weights [N, k]`, `gate_up [E, D, 2F]` (gate columns first), `down [E, F, D]` ->
    `[N, D]` in x's type; products of bfloat16 are summed in float32. Where `experts` is E there is no expert: the pair
    adds nothing, and costs little but in `reference`. Backends:

    - `reference`: every expert on every token, masked; the contract.
    - `xla`: a loop over each expert's own rows, weights read where they lie; right for a CPU.
    - `blocked`: rows padded into blocks, one batched product of all of them; right for a GPU, where a loop whose
      length the device decides makes the host wait.
    - `pallas_tpu`: the grouped products of megablox, rows sorted by expert.
    - `auto`: `pallas_tpu` on a TPU, `blocked` on a GPU, `xla` elsewhere.

    Source: the sparse block of Qwen3-Next and Qwen3.5. Raises ValueError for an unknown backend.
    """
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"expert_mlp: backend {backend!r}: accepted is auto, {', '.join(BACKENDS)}")
    if backend == "auto":
        backend = {"tpu": "pallas_tpu", "gpu": "blocked"}.get(jax.default_backend(), "xla")
    gate_up, down = gate_up.astype(x.dtype), down.astype(x.dtype)
    return BACKENDS[backend](x, experts, weights, gate_up, down, block_size)
