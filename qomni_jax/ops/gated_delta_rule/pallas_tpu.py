"""The gated delta rule on a TPU: Pallas kernels forward and backward, in interpret mode on any other backend."""

import functools
import math

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.gated_delta_rule.pallas_tpu_backward import backward_call
from qomni_jax.ops.gated_delta_rule.pallas_tpu_chunk import LANES, Block
from qomni_jax.ops.gated_delta_rule.pallas_tpu_forward import forward_call
from qomni_jax.ops.gated_delta_rule.pallas_tpu_fused import NO_TOKEN, TAIL, aligned_heads, fused_call

CHUNKS = (32, 64, 128)
MAX_HEADS = 16
SAVE_EVERY = 8  # chunks between the states that the forward keeps for the backward, at most


def gated_delta_rule_pallas_tpu(
    q: Array,
    k: Array,
    v: Array,
    g: Array,
    beta: Array,
    initial_state: Array,
    segment_ids: Array | None,
    *,
    chunk_size: int = 64,
) -> tuple[Array, Array]:
    """Shapes as in `api.gated_delta_rule`; q, k, v float32 or bfloat16, the rest float32. Differentiable.

    A chunk of 32, 64 or 128 tokens fills the 128 lanes with 4, 2 or 1 heads; another `chunk_size` runs as the nearest.
    Head dimensions are padded with zeros to 128, head counts to whole packs, time to whole chunks.
    """
    batch, steps, key_heads, key_dim = q.shape
    value_heads, value_dim = v.shape[2:]
    group = value_heads // key_heads
    chunk = min(CHUNKS, key=lambda c: abs(c - chunk_size))
    block = choose_block(value_heads, group, chunk, key_dim, value_dim, v.dtype, segment_ids is not None)
    more_keys = padded_key_heads(key_heads, group, LANES // chunk) - key_heads
    more_values = more_keys * group
    chunks = -(-steps // chunk)
    every = -(-chunks // -(-chunks // SAVE_EVERY))
    time = (0, -steps % (chunk * every))

    def tokens(x: Array, heads: int, features: int) -> Array:
        x = jnp.pad(x.astype(v.dtype), ((0, 0), time, (0, heads), (0, features)))
        return x.reshape(*x.shape[:2], -1)

    def gate(x: Array) -> Array:
        return jnp.pad(x.astype(jnp.float32), ((0, 0), time, (0, more_values)))

    state = initial_state.astype(jnp.float32)
    dk, dv = block.key_dim - key_dim, block.value_dim - value_dim
    state = jnp.pad(state, ((0, 0), (0, more_values), (0, dk), (0, dv)))
    segments = None
    if segment_ids is not None:
        segments = jnp.pad(segment_ids, ((0, 0), time), mode="edge")
    gates = pack_gates(gate(g), gate(beta), segments, block)
    o, last = run(
        tokens(q, more_keys, dk),
        tokens(k, more_keys, dk),
        tokens(v, more_values, dv),
        gates,
        state,
        block,
        every,
    )
    o = o.reshape(batch, -1, value_heads + more_values, block.value_dim)[:, :steps, :value_heads, :value_dim]
    return o, last[:, :value_heads, :key_dim, :value_dim]


def gated_delta_rule_fused(
    mixed: Array,
    conv_weight: Array,
    a: Array,
    b: Array,
    a_log: Array,
    dt_bias: Array,
    conv_state: Array,
    initial_state: Array,
    segment_ids: Array | None = None,
    *,
    key_heads: int,
    value_heads: int,
    key_dim: int,
    chunk_size: int = 64,
) -> tuple[Array, Array]:
    """Prefill of a Gated DeltaNet mixer between its projections, in one kernel; forward only.

    `silu(causal_depthwise_conv(mixed))` gives q, k, v; q and k of unit length; `beta = sigmoid(b)`,
    `g = -exp(a_log) softplus(a + dt_bias)`; then the gated delta rule.

    Args:
      mixed: `[B, T, 2 HK DK + HV DV]`, channels of q, k, v; conv_weight: `[W, channels]`, at most 8 taps, the last one
        for the current token; conv_state: `[B, W-1, channels]`, inputs before the first token.
      a, b: `[B, T, HV]`, `NO_TOKEN` where there is no token: the state passes it unchanged; a_log, dt_bias: `[HV]`;
        initial_state, segment_ids, chunk_size: as for the gated delta rule.

    Returns `(o [B, T, HV, DV] in mixed's type, final state [B, HV, DK, DV] float32)`.

    Raises:
      ValueError: head dimensions that are not multiples of 128, or heads that do not divide into blocks.
    """
    batch, steps, channels = mixed.shape
    value_dim = (channels - 2 * key_heads * key_dim) // value_heads
    chunk = min(CHUNKS, key=lambda c: abs(c - chunk_size))
    group, pack = value_heads // key_heads, LANES // chunk
    block = Block(
        heads=aligned_heads(key_heads, group, key_dim, value_dim, pack, MAX_HEADS),
        group=group,
        chunk=chunk,
        key_dim=key_dim,
        value_dim=value_dim,
        scale=key_dim**-0.5,
        precise=mixed.dtype == jnp.float32,
        segmented=segment_ids is not None,
    )
    padding = -steps % chunk
    mixed = jnp.pad(mixed, ((0, 0), (0, padding), (0, 0)))
    logits = jnp.stack([a, b]).astype(jnp.float32)
    logits = jnp.pad(logits, ((0, 0), (0, 0), (0, padding), (0, 0)), constant_values=NO_TOKEN)
    head_rows = jnp.stack([jnp.exp(a_log.astype(jnp.float32)), dt_bias.astype(jnp.float32)])
    head_rows = jnp.broadcast_to(head_rows[:, None, None], (2, 1, chunk, value_heads))
    past = conv_weight.shape[0] - 1
    tail = jnp.pad(conv_state.astype(mixed.dtype), ((0, 0), (TAIL - past, 0), (0, 0)))
    o, last = on_tpu_or_interpreted(
        fused_call,
        mixed,
        conv_weight.astype(jnp.float32),
        tail,
        pack_rows(jnp.moveaxis(logits, 0, -1), block),
        pack_rows(jnp.moveaxis(head_rows, 0, -1), block)[0, :, 0],
        segment_rows(segment_ids, batch, steps + padding, past, chunk),
        initial_state.astype(jnp.float32),
        block=block,
        key_heads=key_heads,
        value_heads=value_heads,
    )
    return o.reshape(batch, -1, value_heads, value_dim)[:, :steps], last


def fused_fits(key_heads: int, value_heads: int, key_dim: int, value_dim: int, width: int, chunk_size: int) -> bool:
    """Whether `gated_delta_rule_fused` takes these heads and a convolution of this width."""
    chunk = min(CHUNKS, key=lambda c: abs(c - chunk_size))
    try:
        aligned_heads(key_heads, value_heads // key_heads, key_dim, value_dim, LANES // chunk, MAX_HEADS)
    except ValueError:
        return False
    return width <= TAIL


def segment_rows(segment_ids: Array | None, batch: int, steps: int, past: int, chunk: int) -> Array:
    """`[B, N, 8, 128]`: segments counted from the chunk before on, and the age of a token in its segment up to `past`;
    the conv state before the first token belongs to the first segment."""
    if segment_ids is None:
        return jnp.zeros((batch, steps // chunk, 8, LANES), jnp.float32)
    ids = jnp.pad(segment_ids, ((0, 0), (0, steps - segment_ids.shape[1])), mode="edge")
    change = jnp.diff(ids, axis=1, prepend=ids[:, :1]) != 0
    count = jnp.cumsum(change.reshape(batch, -1, chunk), axis=2)
    at = jnp.arange(steps)
    since = jax.lax.cummax(jnp.where(change, at, -past), axis=1)
    age = jnp.minimum(at - since, past).reshape(count.shape)
    rows = jnp.stack([count, age], axis=2).astype(jnp.float32)
    rows = jnp.pad(rows, ((0, 0), (0, 0), (0, 6), (0, 0)))
    return jnp.tile(rows, LANES // chunk)


def padded_key_heads(key_heads: int, group: int, pack: int) -> int:
    """The least number from `key_heads` on whose value heads make whole packs."""
    unit = pack // math.gcd(pack, group)
    return -(-key_heads // unit) * unit


def choose_block(
    value_heads: int, group: int, chunk: int, key_dim: int, value_dim: int, dtype, segmented: bool
) -> Block:
    """The most heads up to `MAX_HEADS` that divide evenly into packs and into key heads."""
    pack = LANES // chunk
    heads = padded_key_heads(value_heads // group, group, pack) * group
    fitting = [
        n
        for n in range(pack, max(MAX_HEADS, math.lcm(pack, group)) + 1, pack)
        if heads % n == 0 and (n % group == 0 or group % n == 0)
    ]
    return Block(
        heads=max(n for n in fitting if n <= MAX_HEADS or n == min(fitting)),
        group=group,
        chunk=chunk,
        key_dim=-(-key_dim // LANES) * LANES,
        value_dim=-(-value_dim // LANES) * LANES,
        scale=key_dim**-0.5,
        precise=dtype == jnp.float32,
        segmented=segmented,
    )


def pack_gates(g: Array, beta: Array, segments: Array | None, block: Block) -> Array:
    """Rows of gates, lanes of time: `[B, HV / heads, N, KINDS packs, 128]` (see `pallas_tpu_chunk.KINDS`)."""
    batch, steps, heads = beta.shape
    shape = (batch, steps // block.chunk, block.chunk, heads)
    log_decay, beta = jnp.cumsum(g.reshape(shape), axis=2), beta.reshape(shape)
    start, end = log_decay, jnp.exp(log_decay[:, :, -1:] - log_decay)
    segment = jnp.zeros(shape, jnp.float32)
    if segments is not None:
        ids = segments.reshape(*shape[:3], 1)
        before = jnp.concatenate([ids[:, :1, :1], ids[:, :-1, -1:]], axis=1)
        start = jnp.where(ids == before, start, -jnp.inf)
        end = jnp.where(ids == ids[:, :, -1:], end, 0.0)
        changes = jnp.cumsum(jnp.diff(ids, axis=2, prepend=ids[:, :, :1]) != 0, axis=2)
        segment = jnp.broadcast_to(changes, shape).astype(jnp.float32)
    kinds = jnp.stack([log_decay, beta, start, end * beta, segment], axis=-1)  # [B, N, C, H, kinds]
    return pack_rows(kinds.reshape(batch, steps, heads, -1), block)


def pack_rows(x: Array, block: Block) -> Array:
    """`[B, T, H, kinds]` -> `[B, H / heads, N, kinds packs, 128]`, lanes of time, members side by side."""
    batch, steps, heads, kinds = x.shape
    x = x.reshape(batch, steps // block.chunk, block.chunk, heads // block.heads, block.packs, block.pack, kinds)
    x = jnp.transpose(x, (0, 3, 1, 6, 4, 5, 2))  # [B, blocks, N, kinds, packs, pack, C]
    return x.reshape(*x.shape[:3], -1, LANES)


def on_tpu_or_interpreted(call, *args, **options):
    """The compiled kernel when lowered for a TPU, else the same kernel in interpret mode."""
    return jax.lax.platform_dependent(
        *args,
        tpu=functools.partial(call, interpret=False, **options),
        default=functools.partial(call, interpret=True, **options),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def run(q, k, v, gates, state, block: Block, every: int):
    return tuple(on_tpu_or_interpreted(forward_call, q, k, v, gates, state, block=block, every=0))


def run_forward(q, k, v, gates, state, block: Block, every: int):
    o, last, saved = on_tpu_or_interpreted(forward_call, q, k, v, gates, state, block=block, every=every)
    return (o, last), (q, k, v, gates, saved)


def run_backward(block: Block, every: int, residuals, cotangents):
    q, k, v, gates, saved = residuals
    do, last = cotangents
    arguments = (q, k, v, gates, do, saved, last)
    dq, dk, dv, dgates, dstate = on_tpu_or_interpreted(backward_call, *arguments, block=block, every=every)
    if dq.shape != q.shape:  # several blocks of value heads read one key head
        dq, dk = (x.reshape(*x.shape[:2], -1, block.group // block.heads, block.key_dim) for x in (dq, dk))
        dq, dk = (x.astype(jnp.float32).sum(axis=3).reshape(q.shape).astype(q.dtype) for x in (dq, dk))
    return dq, dk, dv, dgates, dstate


run.defvjp(run_forward, run_backward)
