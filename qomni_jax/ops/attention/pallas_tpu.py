"""The splash attention kernel that ships with jax: grouped, with segments, forward and backward on a TPU."""

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
# The backward kernel writes a partial gradient of its queries for each tile of keys. Heads whose partial gradients take
# more than this many bytes together take turns.
PARTIAL_GRADIENTS = 2**31


def attention_pallas_tpu(
    q: Array, k: Array, v: Array, low: Array, *, causal: bool = True, interpret: bool = False
) -> Array:
    """`q [B, T, H, D]`, `k, v [B, T, HK, D]`; query t of row b sees its segment, causal: up to t.

    `low [B, T]` is the first slot of each token's segment.

    Time is padded to whole blocks, channels to whole lanes. The residuals that the backward pass reads carry the name
    `attention_out`, so that rematerialisation can keep them.
    """
    batch, steps, heads, dim = q.shape
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
    group = heads // kv_heads
    partial = padded // keys * padded * (dim + -dim % LANES) * q.dtype.itemsize
    all_at_once = batch * heads * partial <= PARTIAL_GRADIENTS
    taken = max(
        n for n in range(1, group + 1) if group % n == 0 and (n * batch * partial <= PARTIAL_GRADIENTS or n == 1)
    )
    taken = group if all_at_once else taken
    kind = splash.CausalMask if causal else splash.FullMask
    mask = splash.MultiHeadMask([kind((padded, padded)) for _ in range(taken)])
    kernel = splash.make_splash_mqa_single_device(
        mask, block_sizes=sizes, residual_checkpoint_name="attention_out", interpret=interpret
    )

    def prepare(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (0, padded - steps), (0, 0), (0, -dim % LANES)))
        return jnp.swapaxes(x, 1, 2)

    segments = jnp.pad(low, ((0, 0), (0, padded - steps)), constant_values=-1)
    q, k, v = prepare(q * jnp.asarray(dim**-0.5, q.dtype)), prepare(k), prepare(v)
    k, v = (jnp.repeat(x, group // taken, axis=1) for x in (k, v))
    q = q.reshape(batch, -1, taken, padded, q.shape[-1])

    def one_row(q: Array, k: Array, v: Array, segments: splash.SegmentIds) -> Array:
        if all_at_once:
            return jax.vmap(kernel, in_axes=(0, 0, 0, None))(q, k, v, segments)
        return jax.lax.map(lambda heads: kernel(*heads, segments), (q, k, v))

    o = jax.vmap(one_row)(q, k, v, splash.SegmentIds(segments, segments))
    return jnp.swapaxes(o.reshape(batch, heads, padded, -1), 1, 2)[:, :steps, :, :dim]
