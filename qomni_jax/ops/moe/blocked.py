"""Experts as one batched product over padded blocks: the form for a GPU."""

from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.moe.grouping import group_by_expert, swiglu, take


def expert_mlp_blocked(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array, block_size: int) -> Array:
    """As `api.expert_mlp`; pairs sorted by expert into blocks of `block_size`, each times its expert's weights."""
    num_experts, inner, dim = down.shape
    pairs = experts.size
    block = min(block_size, max(1, pairs // num_experts))
    num_blocks = -(-pairs // block) + min(num_experts, pairs)

    groups = group_by_expert(experts, num_experts)
    blocks_each = -(-(groups.end - groups.start) // block)
    last_block = jnp.cumsum(blocks_each)
    # The row of a group at which its first block would begin, if all blocks stood in one line of rows.
    shift = groups.start - (last_block - blocks_each) * block
    of_block = jnp.searchsorted(last_block, jnp.arange(num_blocks), side="right").clip(0, num_experts - 1)
    row_of_slot = jnp.arange(num_blocks * block).reshape(num_blocks, block) + shift[of_block][:, None]
    token = take(groups.pair, row_of_slot.clip(0, pairs - 1)) // experts.shape[1]

    hidden = jnp.einsum("gbd,gdf->gbf", take(x, token), gate_up[of_block], preferred_element_type=jnp.float32)
    active = swiglu(hidden[..., :inner], hidden[..., inner:]).astype(x.dtype)
    outputs = jnp.einsum("gbf,gfd->gbd", active, down[of_block], preferred_element_type=jnp.float32)
    real = experts < num_experts
    slot = groups.row - shift[jnp.minimum(experts, num_experts - 1)]
    per_pair = take(outputs.reshape(-1, dim), jnp.where(real, slot, 0))
    return jnp.einsum("nkd,nk->nd", per_pair, jnp.where(real, weights.astype(jnp.float32), 0.0)).astype(x.dtype)
