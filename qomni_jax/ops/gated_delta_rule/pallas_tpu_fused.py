"""The forward kernel with what surrounds it fused in: causal convolution, SiLU, L2 norm and gates.

One pass over the projections: the convolution's past three tokens stay in VMEM from chunk to chunk, as the state does.
"""

import functools
import math

import jax
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from qomni_jax.ops.gated_delta_rule.pallas_tpu_chunk import LANES, VMEM_LIMIT, Block, Gates, remainder
from qomni_jax.ops.gated_delta_rule.pallas_tpu_forward import forward_chunk, forward_flops

TAIL = 8  # rows kept of the chunk before: a whole register, of which the convolution reads the last three
NO_TOKEN = -1e30  # as a gate's logit: sigmoid and softplus of it are 0
COUNT, AGE = 0, 1  # rows of the segments array: changes since the chunk before; tokens since the segment's start


def lane_scan(x: Array, chunk: int, reverse: bool) -> Array:
    """Running sum over each member's lanes of `x [rows, 128]`: of a lane and those before it, or strictly after it."""
    lane = remainder(jax.lax.broadcasted_iota(jnp.int32, x.shape, 1), chunk)
    if reverse:
        x = jnp.where(lane == chunk - 1, 0.0, pltpu.roll(x, LANES - 1, 1))
    shift = 1
    while shift < chunk:
        moved = pltpu.roll(x, LANES - shift if reverse else shift, 1)
        seen = lane < chunk - shift if reverse else lane >= shift
        x = x + jnp.where(seen, moved, 0.0)
        shift *= 2
    return x


def gate_rows(logits: Array, head_rows: Array, segments: Array, block: Block) -> Array:
    """Logits `[2 packs, 128]` (a, then b), per-head rows (exp(A_log), then dt_bias) -> the rows that `Gates` takes."""
    packs = block.packs
    a, b = logits[:packs] + head_rows[packs:], logits[packs:]
    softplus = jnp.maximum(a, 0.0) + jnp.log(1.0 + jnp.exp(-jnp.abs(a)))
    g = -head_rows[:packs] * softplus
    beta = 1.0 / (1.0 + jnp.exp(-b))
    start, end = jnp.exp(lane_scan(g, block.chunk, False)), jnp.exp(lane_scan(g, block.chunk, True))
    count = jnp.broadcast_to(segments[COUNT : COUNT + 1], g.shape)
    if block.segmented:
        start = jnp.where(count == 0, start, 0.0)
        end = jnp.where(count == jnp.max(count, axis=1, keepdims=True), end, 0.0)
    return jnp.concatenate([lane_scan(g, block.chunk, False), beta, start, end * beta, count])


def fused_kernel(
    q_ref,
    k_ref,
    v_ref,
    weight_q_ref,
    weight_k_ref,
    weight_v_ref,
    tail_q_ref,
    tail_k_ref,
    tail_v_ref,
    logits_ref,
    head_rows_ref,
    segments_ref,
    first_ref,
    o_ref,
    last_ref,
    state,
    history,
    semaphore,
    *,
    block: Block,
):
    b, j, n = (pl.program_id(i) for i in range(3))
    heads = pl.ds(pl.multiple_of(j * block.heads, block.heads), block.heads)
    chunk = block.chunk
    inputs = (
        (q_ref, weight_q_ref, tail_q_ref),
        (k_ref, weight_k_ref, tail_k_ref),
        (v_ref, weight_v_ref, tail_v_ref),
    )

    @pl.when(n == 0)
    def _():
        copy = pltpu.make_async_copy(first_ref.at[b, heads], state, semaphore)
        copy.start()
        at = 0
        for x_ref, _, tail_ref in inputs:
            for c in range(x_ref.shape[2] // LANES):
                history[at, pl.ds(chunk, TAIL), :] = tail_ref[0, :, c * LANES : (c + 1) * LANES].astype(jnp.float32)
                at += 1
        copy.wait()

    segments = segments_ref[0, 0]
    age = jnp.broadcast_to(segments.T[:chunk, AGE : AGE + 1], (chunk, LANES)) if block.segmented else None
    mixed: list[list[Array]] = []
    at = 0
    for x_ref, weight_ref, _ in inputs:
        mixed.append([])
        for c in range(x_ref.shape[2] // LANES):
            lanes = slice(c * LANES, (c + 1) * LANES)
            history[at, pl.ds(0, TAIL), :] = history[at, pl.ds(chunk, TAIL), :]
            history[at, pl.ds(TAIL, chunk), :] = x_ref[0, :, lanes].astype(jnp.float32)
            width = weight_ref.shape[0]
            y = history[at, pl.ds(TAIL, chunk), :] * weight_ref[width - 1 : width, lanes]
            for back in range(1, width):
                past = history[at, pl.ds(TAIL - back, chunk), :]
                if age is not None:
                    past = jnp.where(age >= back, past, 0.0)
                y = y + past * weight_ref[width - 1 - back : width - back, lanes]
            half = 0.5 * y
            mixed[-1].append(half + half * jnp.tanh(half))  # SiLU with one transcendental
            at += 1

    def unit(parts: list[Array]) -> Array:
        scale = jax.lax.rsqrt(sum(jnp.sum(x * x, axis=1, keepdims=True) for x in parts) + 1e-6)
        return jnp.concatenate([(x * scale).astype(block.dtype) for x in parts], axis=1)

    def grouped(parts: list[Array], dim: int) -> list[list[Array]]:
        per = dim // LANES
        return [parts[i : i + per] for i in range(0, len(parts), per)]

    q, k = ([unit(parts) for parts in grouped(x, block.key_dim)] for x in mixed[:2])
    v = [jnp.concatenate(parts, axis=1) for parts in grouped(mixed[2], block.value_dim)]
    gates = Gates(gate_rows(logits_ref[0, 0, 0], head_rows_ref[0], segments, block), block)
    out, new = forward_chunk(q, k, v, gates, [state[h] for h in range(block.heads)], block)
    for h in range(block.heads):
        state[h] = new[h]
        width = slice(h * block.value_dim, (h + 1) * block.value_dim)
        o_ref[0, :, width] = block.stacked_part(out[h // block.pack], h % block.pack).astype(o_ref.dtype)

    @pl.when(n == pl.num_programs(2) - 1)
    def _():
        copy = pltpu.make_async_copy(state, last_ref.at[b, heads], semaphore)
        copy.start()
        copy.wait()


@functools.partial(jax.jit, static_argnames=("block", "key_heads", "value_heads", "interpret"))
def fused_call(
    mixed,
    weight,
    tail,
    logits,
    head_rows,
    segments,
    first,
    *,
    block: Block,
    key_heads: int,
    value_heads: int,
    interpret: bool,
):
    """mixed `[B, T, 2 HK DK + HV DV]`, weight `[W, channels]`, tail `[B, TAIL, channels]`, logits and rows as packed by
    `pallas_tpu.gated_delta_rule_fused`, segments `[B, N, 8, 128]`, first `[B, HV, DK, DV]` -> o `[B, T, HV DV]`, state.
    """
    batch, steps, _ = mixed.shape
    blocks = value_heads // block.heads
    grid = (batch, blocks, steps // block.chunk)
    share = max(1, block.group // block.heads)
    key_width, value_width = block.key_heads * block.key_dim, block.heads * block.value_dim
    key_blocks = key_heads // block.key_heads
    # Where the three parts start, in blocks of their own width: one array is read at three places, without a copy.
    parts = (
        (key_width, share, 0),
        (key_width, share, key_blocks),
        (value_width, 1, 2 * key_heads * block.key_dim // value_width),
    )

    def at(shape, index):
        return [
            pl.BlockSpec((*shape, width), functools.partial(index, share=share, offset=offset))
            for width, share, offset in parts
        ]

    tokens = at((1, block.chunk), lambda b, j, n, share, offset: (b, n, offset + jax.lax.div(j, share)))
    weights = at((weight.shape[0],), lambda b, j, n, share, offset: (0, offset + jax.lax.div(j, share)))
    tails = at((1, TAIL), lambda b, j, n, share, offset: (b, 0, offset + jax.lax.div(j, share)))
    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    slices = (2 * key_width + value_width) // LANES
    work = batch * steps * value_heads
    moved = sum(x.size * x.dtype.itemsize for x in (mixed, logits, segments, first, first))
    moved += work * block.value_dim * mixed.dtype.itemsize
    return pl.pallas_call(
        functools.partial(fused_kernel, block=block),
        grid=grid,
        in_specs=[
            *tokens,
            *weights,
            *tails,
            pl.BlockSpec((1, 1, 1, 2 * block.packs, LANES), lambda b, j, n: (b, j, n, 0, 0)),
            pl.BlockSpec((1, 2 * block.packs, LANES), lambda b, j, n: (j, 0, 0)),
            pl.BlockSpec((1, 1, 8, LANES), lambda b, j, n: (b, n, 0, 0)),
            anywhere,
        ],
        out_specs=[pl.BlockSpec((1, block.chunk, value_width), lambda b, j, n: (b, n, j)), anywhere],
        out_shape=[
            jax.ShapeDtypeStruct((batch, steps, value_heads * block.value_dim), mixed.dtype),
            jax.ShapeDtypeStruct(first.shape, jnp.float32),
        ],
        scratch_shapes=[
            pltpu.VMEM((block.heads, block.key_dim, block.value_dim), jnp.float32),
            pltpu.VMEM((slices, TAIL + block.chunk, LANES), jnp.float32),
            pltpu.SemaphoreType.DMA,
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"), vmem_limit_bytes=VMEM_LIMIT
        ),
        cost_estimate=pl.CostEstimate(
            flops=forward_flops(work, block) + 2 * weight.shape[0] * mixed.size,
            bytes_accessed=moved,
            transcendentals=work * block.chunk + mixed.size,
        ),
        interpret=interpret,
        name="gated_delta_rule_fused",
    )(mixed, mixed, mixed, weight, weight, weight, tail, tail, tail, logits, head_rows, segments, first)


def aligned_heads(key_heads: int, group: int, key_dim: int, value_dim: int, pack: int, limit: int) -> int:
    """The most heads a block, so that each part of the channels starts at a whole block. Raises ValueError if none."""
    value_heads = key_heads * group
    lanes = all(d % LANES == 0 for d in (key_dim, value_dim))
    for heads in range(limit, pack - 1, -pack) if lanes else ():
        whole = value_heads % heads == 0 and (heads % group == 0 or group % heads == 0)
        if whole and 2 * key_heads * key_dim % (heads * value_dim) == 0:
            return heads
    raise ValueError(
        f"gated_delta_rule_fused: {key_heads} key heads of {key_dim}, {value_heads} value heads of {value_dim}: "
        f"accepted are dimensions that are multiples of {LANES} and blocks of a multiple of {pack} heads that divide "
        f"the value heads and the {2 * math.prod((key_heads, key_dim))} channels before the values"
    )
