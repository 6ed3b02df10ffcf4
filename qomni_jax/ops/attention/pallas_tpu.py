"""The splash attention kernel that ships with jax: causal, grouped, with segments, forward and backward on a TPU."""

import jax
from jax import Array
from jax.experimental.pallas.ops.tpu import splash_attention as splash
import jax.numpy as jnp

LANES = 128
BLOCK = 512
# Tiles of queries and keys in the backward kernel, the first that divides: the largest that the default limit of
# on-chip memory holds with 256 channels on every generation.
BACKWARD_QUERIES = (256, 128)
BACKWARD_KEYS = 1024
# The backward kernel writes a partial gradient of all queries for each tile of keys. From this many tiles on, key heads
# take turns, and so does that memory.
MANY_TILES = 8


def attention_pallas_tpu(q: Array, k: Array, v: Array, low: Array, *, interpret: bool = False) -> Array:
    """`q [B, T, H, D]`, `k, v [B, T, HK, D]`; query t of row b sees `low[b, t] .. t`, low constant in a segment.

    Time is padded to whole blocks, channels to whole lanes. The residuals that the backward pass reads carry the name
    `attention_out`, so that rematerialisation can keep them.
    """
    steps, heads, dim = q.shape[1:]
    kv_heads = k.shape[2]
    block = min(BLOCK, -(-steps // LANES) * LANES)
    padded = -(-steps // block) * block
    queries = next(n for n in BACKWARD_QUERIES if padded % n == 0)
    keys = BACKWARD_KEYS if padded % BACKWARD_KEYS == 0 else block
    sizes = splash.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=block,
        block_q_dkv=queries,
        block_kv_dkv=keys,
        block_kv_dkv_compute=block,
        use_fused_bwd_kernel=True,
    )
    mask = splash.MultiHeadMask([splash.CausalMask((padded, padded)) for _ in range(heads // kv_heads)])
    kernel = splash.make_splash_mqa_single_device(
        mask, block_sizes=sizes, residual_checkpoint_name="attention_out", interpret=interpret
    )

    def prepare(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (0, padded - steps), (0, 0), (0, -dim % LANES)))
        return jnp.swapaxes(x, 1, 2)

    q = prepare(q * jnp.asarray(dim**-0.5, q.dtype))
    q = q.reshape(q.shape[0], kv_heads, heads // kv_heads, padded, -1)
    segments = jnp.pad(low, ((0, 0), (0, padded - steps)), constant_values=-1)

    def over_heads(q: Array, k: Array, v: Array, segments: splash.SegmentIds) -> Array:
        if padded // keys < MANY_TILES:
            return jax.vmap(kernel, in_axes=(0, 0, 0, None))(q, k, v, segments)
        return jax.lax.map(lambda one: kernel(*one, segments), (q, k, v))

    o = jax.vmap(over_heads)(q, prepare(k), prepare(v), splash.SegmentIds(segments, segments))
    return jnp.swapaxes(o.reshape(o.shape[0], heads, padded, -1), 1, 2)[:, :steps, :, :dim]
