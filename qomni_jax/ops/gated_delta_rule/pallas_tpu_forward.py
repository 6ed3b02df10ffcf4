"""The forward kernel: a grid of (batch, blocks of heads, chunks), the state of a block of heads in VMEM.

With the errors E = v - k^T S in place of beta E the algebra of `xla.py` needs beta along lanes only:
E = (I + A beta)^-1 (V - e^G K S), A = tril(K K^T * D, -1); O = e^G Q S + (Q K^T * D) beta E;
S <- e^(G_last) S + K^T (beta e^(G_last - G)) E. Every stage is written for all heads before the next one begins: the
products of one head then hide the latency of another's.
"""

import functools

import jax
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from qomni_jax.ops.gated_delta_rule.pallas_tpu_chunk import (
    BETA,
    KINDS,
    LANES,
    START,
    VMEM_LIMIT,
    Block,
    Gates,
    columns,
    errors,
    next_states,
    scores,
    unit_lower_inverse,
)


def forward_chunk(q, k, v, gates: Gates, state: list[Array], block: Block) -> tuple[list[Array], list[Array]]:
    """One chunk of a block of heads: lists by head of `[C, D]` -> outputs by pack (stacked), new states by head."""
    packs = range(block.packs)
    both = [jnp.concatenate([a, b]) for a, b in zip(q, k, strict=True)]
    products = scores(both, k, block)
    queries, keys = ([x[part] for x in products] for part in (slice(0, block.chunk), slice(block.chunk, None)))
    low = [s.astype(block.dtype) for s in state]
    read = [block.dot(both[block.key_of(h)], low[h]) for h in range(block.heads)]
    weights = [gates.decay(p) * gates.row(BETA, p) for p in packs]
    inverse = unit_lower_inverse([keys[p] * weights[p] for p in packs], block)
    start = [gates.wide_column(START, p) for p in packs]
    error = errors(inverse, v, [x[block.chunk :] for x in read], start, block)
    out = []
    for p in packs:
        seen = block.stacked([x[: block.chunk] for x in read], p)
        inside = block.dot(block.block_diagonal(queries[p] * weights[p]), error[p])
        out.append(block.scale * (start[p] * seen + inside))
    return out, next_states(k, error, gates, start, state, block)


def forward_kernel(q_ref, k_ref, v_ref, gates_ref, first_ref, o_ref, last_ref, *rest, block: Block, every: int):
    *saved, state, semaphore = rest
    b, j, n = (pl.program_id(i) for i in range(3))
    heads = pl.ds(pl.multiple_of(j * block.heads, block.heads), block.heads)

    @pl.when(n == 0)
    def _():
        copy = pltpu.make_async_copy(first_ref.at[b, heads], state, semaphore)
        copy.start()
        copy.wait()

    if saved:

        @pl.when(jax.lax.rem(n, every) == 0)
        def _():
            saved[0][0, 0] = state[...]

    q = [columns(q_ref[0], i, block.key_dim) for i in range(block.key_heads)]
    k = [columns(k_ref[0], i, block.key_dim) for i in range(block.key_heads)]
    v = [columns(v_ref[0], h, block.value_dim) for h in range(block.heads)]
    gates = Gates.from_logarithm(gates_ref[0, 0, 0], block)
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


def chunk_specs(block: Block, chunks_of=lambda n: n):
    """Block specs of q or k, of v, and of the gates."""
    per = max(1, block.group // block.heads)  # blocks of value heads that read one key head

    def tokens(width: int, share: int) -> pl.BlockSpec:
        return pl.BlockSpec((1, block.chunk, width), lambda b, j, n: (b, chunks_of(n), jax.lax.div(j, share)))

    gates = pl.BlockSpec((1, 1, 1, KINDS * block.packs, LANES), lambda b, j, n: (b, j, chunks_of(n), 0, 0))
    return tokens(block.key_heads * block.key_dim, per), tokens(block.heads * block.value_dim, 1), gates


def forward_flops(tokens: int, block: Block) -> int:
    """Multiply-adds counted twice, of `tokens` times heads: scores, reads, error, output, update; without padding."""
    c, dk, dv = block.chunk, block.key_dim, block.value_dim
    return 2 * tokens * (2 * c * dk + 2 * dk * dv + 2 * c * dv + dk * dv)


@functools.partial(jax.jit, static_argnames=("block", "every", "interpret"))
def forward_call(q, k, v, gates, first, *, block: Block, every: int, interpret: bool):
    """q, k `[B, T, HK DK]`, v `[B, T, HV DV]`, gates `[B, HV / heads, N, KINDS packs, 128]`, first `[B, HV, DK, DV]`.

    Returns o, the final state, and with `every > 0` the state before every `every`-th chunk, `[B, N / every, HV, ...]`.
    """
    batch, steps, width = v.shape
    value_heads = width // block.value_dim
    grid = (batch, value_heads // block.heads, steps // block.chunk)
    key_spec, value_spec, gate_spec = chunk_specs(block)
    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    state_shape = (block.key_dim, block.value_dim)
    out_shape = [jax.ShapeDtypeStruct(v.shape, v.dtype), jax.ShapeDtypeStruct(first.shape, jnp.float32)]
    out_specs = [value_spec, anywhere]
    if every:
        saves = pl.cdiv(grid[2], every)
        out_shape.append(jax.ShapeDtypeStruct((batch, saves, value_heads, *state_shape), jnp.float32))
        out_specs.append(
            pl.BlockSpec((1, 1, block.heads, *state_shape), lambda b, j, n: (b, jax.lax.div(n, every), j, 0, 0))
        )
    tokens = batch * steps * value_heads
    moved = sum(x.size * x.dtype.itemsize for x in (q, k, v, v, gates, first, first))
    return pl.pallas_call(
        functools.partial(forward_kernel, block=block, every=every),
        grid=grid,
        in_specs=[key_spec, key_spec, value_spec, gate_spec, anywhere],
        out_specs=out_specs,
        out_shape=out_shape,
        scratch_shapes=[pltpu.VMEM((block.heads, *state_shape), jnp.float32), pltpu.SemaphoreType.DMA],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"), vmem_limit_bytes=VMEM_LIMIT
        ),
        cost_estimate=pl.CostEstimate(
            flops=forward_flops(tokens, block), bytes_accessed=moved, transcendentals=tokens * block.chunk
        ),
        interpret=interpret,
        name="gated_delta_rule_forward",
    )(q, k, v, gates, first)
