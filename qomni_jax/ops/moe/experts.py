"""SwiGLU experts applied to routed tokens; no token is ever dropped."""

from collections.abc import Callable

import jax
from jax import Array
import jax.numpy as jnp


def expert_mlp(
    x: Array, experts: Array, weights: Array, gate_up: Array, down: Array, *, backend: str = "xla", block_size: int = 64
) -> Array:
    """Weighted sum over each token's experts of `down(silu(gate x) * up x)`.

    `x [N, D]`, `experts [N, k]` int, `weights [N, k]`, `gate_up [E, D, 2F]` (gate columns first), `down [E, F, D]` ->
    `[N, D]`. Backends: `reference` (every expert on every token, masked), `xla` (tokens sorted by expert into blocks
    of `block_size`, each block multiplied by its own expert's weights: the form that is fast on CPU and GPU).

    Raises ValueError for an unknown backend.
    """
    if backend not in BACKENDS:
        raise ValueError(f"expert_mlp: backend {backend!r}: accepted is {', '.join(sorted(BACKENDS))}")
    return BACKENDS[backend](x, experts, weights, gate_up, down, block_size)


def _reference(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array, block_size: int) -> Array:
    del block_size
    hidden = jnp.einsum("nd,edf->enf", x, gate_up)
    outputs = jnp.einsum("enf,efd->end", _swiglu(hidden), down)
    share = jnp.sum(
        jax.nn.one_hot(experts, gate_up.shape[0], dtype=x.dtype) * weights[..., None].astype(x.dtype), axis=1
    )
    return jnp.einsum("end,ne->nd", outputs, share)


def _blocked(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array, block_size: int) -> Array:
    tokens, top_k = experts.shape
    num_experts = gate_up.shape[0]
    pairs = tokens * top_k
    block = min(block_size, max(1, pairs // num_experts))
    num_blocks = -(-pairs // block) + min(num_experts, pairs)

    flat = experts.reshape(pairs)
    order = jnp.argsort(flat, stable=True)
    counts = jnp.zeros(num_experts, jnp.int32).at[flat].add(1)
    blocks_each = -(-counts // block)
    first_block = jnp.cumsum(blocks_each) - blocks_each
    first_pair = jnp.cumsum(counts) - counts
    sorted_experts = flat[order]
    slot_of_sorted = first_block[sorted_experts] * block + jnp.arange(pairs) - first_pair[sorted_experts]
    pair_in_slot = jnp.full(num_blocks * block, pairs, jnp.int32).at[slot_of_sorted].set(order.astype(jnp.int32))
    slot_of_pair = jnp.zeros(pairs, jnp.int32).at[order].set(slot_of_sorted.astype(jnp.int32))
    ends = jnp.cumsum(blocks_each)
    expert_of_block = jnp.searchsorted(ends, jnp.arange(num_blocks), side="right").clip(0, num_experts - 1)

    padded = jnp.concatenate([x, jnp.zeros((1, x.shape[1]), x.dtype)])
    blocks = padded[pair_in_slot // top_k].reshape(num_blocks, block, -1)
    hidden = jnp.einsum("gbd,gdf->gbf", blocks, gate_up[expert_of_block])
    outputs = jnp.einsum("gbf,gfd->gbd", _swiglu(hidden), down[expert_of_block])
    per_pair = outputs.reshape(num_blocks * block, -1)[slot_of_pair].reshape(tokens, top_k, -1)
    return jnp.einsum("nkd,nk->nd", per_pair, weights.astype(x.dtype))


def _swiglu(hidden: Array) -> Array:
    gate, up = jnp.split(hidden, 2, axis=-1)
    return jax.nn.silu(gate) * up


BACKENDS: dict[str, Callable[..., Array]] = {"reference": _reference, "xla": _blocked}
