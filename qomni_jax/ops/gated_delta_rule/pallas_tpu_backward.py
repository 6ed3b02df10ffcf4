"""The backward kernel: segments of chunks from the last to the first, each walked twice.

Only the state before every `every`-th chunk is kept by the forward. The first walk over a segment goes forward from
that state and leaves states, errors and inverses of the segment in VMEM; the second goes backward with the gradient of
the state. With W = D beta, P = Q K^T W, A = K K^T W (see `pallas_tpu_forward`), F = dS and c = beta e^(G_last - G):

  dE = P^T dO + c K F;  dR = (I + A)^-T dE = dV;  dP = dO E^T;  dA = -tril(dR E^T, -1)
  B = [e^G dO; -e^G dR];  [dQ; dK] = B S^T;  F <- e^(G_last) F + [Q; K]^T B
  dQ += (dP W) K;  dK += (dP W)^T Q + (dA W + (dA W)^T) K + c E F^T

The gradient of the log decay inside the chunk is the difference of row and column sums of dD D itself, in float32. The
closed form <q, dq> - <k, dk> + ... would subtract two numbers that one bfloat16 pass has rounded apart.
"""

import functools

import jax
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from qomni_jax.ops.gated_delta_rule.pallas_tpu_chunk import (
    BETA,
    CONTRACT_FIRST,
    CONTRACT_LAST,
    END,
    KINDS,
    LANES,
    LOG_DECAY,
    START,
    VMEM_LIMIT,
    Block,
    Gates,
    columns,
    errors,
    next_states,
    remainder,
    scores,
    unit_lower_inverse,
)


def forward_walk(k, v, gates: Gates, state, block: Block):
    """Decays, Gram matrices, inverses and errors by pack, and the next states by head."""
    packs = range(block.packs)
    gram = scores(k, k, block)
    seen = [block.dot(k[block.key_of(h)], state[h]) for h in range(block.heads)]
    decay = [gates.decay(p) for p in packs]
    inverse = unit_lower_inverse([gram[p] * (decay[p] * gates.row(BETA, p)) for p in packs], block)
    start = [gates.wide_column(START, p) for p in packs]
    error = errors(inverse, v, seen, start, block)
    return decay, gram, inverse, error, next_states(k, error, gates, start, state, block)


def backward_chunk(q, k, do, gates: Gates, state, decay, gram, inverse, error, carry, block: Block):
    """Gradients of a chunk: dq, dk by key head, dv by pack (stacked), the gates' rows, the new carry."""
    packs, heads, chunk = range(block.packs), range(block.heads), block.chunk
    key_of = block.key_of
    weights = [decay[p] * gates.row(BETA, p) for p in packs]
    queries = scores(q, k, block)
    start = [gates.wide_column(START, p) for p in packs]
    end = [gates.wide_column(END, p) for p in packs]
    low = [carry[h].astype(block.dtype) for h in heads]
    ahead = [block.dot(k[key_of(h)], low[h]) for h in heads]
    d_error = [
        block.dot(block.block_diagonal(block.scale * queries[p] * weights[p]), block.stacked(do, p), CONTRACT_FIRST)
        + end[p] * block.stacked(ahead, p)
        for p in packs
    ]
    d_right = [block.dot(block.block_diagonal(inverse[p]), d_error[p], CONTRACT_FIRST) for p in packs]

    # Gradients of the scores: [dO; dR] E^T of every head, packed.
    low_right = [x.astype(block.dtype) for x in d_right]
    products = []
    for p in packs:
        parts = [
            block.dot(jnp.concatenate([do[h], block.stacked_part(low_right[p], m)]), error[p], CONTRACT_LAST)
            for m, h in enumerate(block.members(p))
        ]
        products.append(block.packed(parts))

    # Through the state at the chunk's start.
    reads, added = [], []
    for p in packs:
        for m, h in enumerate(block.members(p)):
            left = block.scale * block.stacked_part(start[p], m) * do[h].astype(jnp.float32)
            right = block.stacked_part(start[p] * d_right[p], m)
            both = jnp.concatenate([left, -right]).astype(block.dtype)
            reads.append(block.dot(both, state[h], CONTRACT_LAST))
            added.append(block.dot(jnp.concatenate([q[key_of(h)], k[key_of(h)]]), both, CONTRACT_FIRST))
    written = [
        block.dot(block.stacked_part(error[p], m), low[h], CONTRACT_LAST)
        for p in packs
        for m, h in enumerate(block.members(p))
    ]

    d_q: dict[int, Array] = {}
    d_k: dict[int, Array] = {}
    sums = ColumnSums(block)
    row_kinds: dict[tuple[int, int], Array] = {}
    lane = jax.lax.broadcasted_iota(jnp.int32, (chunk, LANES), 1)
    below = jax.lax.broadcasted_iota(jnp.int32, (chunk, LANES), 0) > remainder(lane, chunk)
    end_row = jax.lax.broadcasted_iota(jnp.int32, (8, block.value_dim), 0) == 7
    for p in packs:
        d_scores = block.scale * products[p][:chunk]
        d_gram = jnp.where(below, -products[p][chunk:], 0.0)
        d_decay = (d_scores * queries[p] + d_gram * gram[p]) * decay[p]
        column_sum = jnp.sum(d_decay, axis=0, keepdims=True)
        row_kinds[BETA, p] = column_sum
        row_kinds[LOG_DECAY, p] = -column_sum * gates.row(BETA, p)
        sums.add_packed(LOG_DECAY, p, d_decay * gates.row(BETA, p))
        wide_k = jnp.concatenate([k[key_of(h)] for h in block.members(p)])
        wide_q = jnp.concatenate([q[key_of(h)] for h in block.members(p)])
        d_products = jnp.concatenate([block.block_diagonal(x * weights[p]) for x in (d_scores, d_gram)])
        direct = block.dot(d_products, wide_k)
        from_q = direct[:LANES]
        turned = block.dot(d_products, jnp.concatenate([wide_q, wide_k]), CONTRACT_FIRST)
        from_k = direct[LANES:] + turned
        out_k = block.stacked(written, p)
        wide_k, wide_q = wide_k.astype(jnp.float32), wide_q.astype(jnp.float32)
        sums.add(END, p, wide_k * out_k)
        read_q = jnp.concatenate([reads[h][:chunk] for h in block.members(p)])
        read_k = jnp.concatenate([reads[h][chunk:] for h in block.members(p)])
        started = []
        for m, h in enumerate(block.members(p)):
            part = block.stacked_part(wide_q * read_q + wide_k * read_k, m)
            kept = start[p][(m + 1) * chunk - 1 : (m + 1) * chunk]
            last = kept * jnp.sum(carry[h] * state[h].astype(jnp.float32), axis=0, keepdims=True)
            started += [part[: chunk - 8], part[chunk - 8 :] + jnp.where(end_row, last, 0.0)]
        sums.add(START, p, jnp.concatenate(started))
        total_q, total_k = from_q + read_q, from_k + read_k + gates.wide_column(END, p)[:, :1] * out_k
        for m, h in enumerate(block.members(p)):
            u = key_of(h)
            part_q, part_k = block.stacked_part(total_q, m), block.stacked_part(total_k, m)
            d_q[u] = d_q[u] + part_q if u in d_q else part_q
            d_k[u] = d_k[u] + part_k if u in d_k else part_k
    new = []
    for p in packs:
        for m, h in enumerate(block.members(p)):
            kept = start[p][(m + 1) * chunk - 1 : (m + 1) * chunk]
            new.append(kept * carry[h] + added[h])
    return d_q, d_k, d_right, sums.rows(row_kinds), new


class ColumnSums:
    """Gathers sums over features (a number a token) as columns, and turns them into rows of gates at the end."""

    def __init__(self, block: Block):
        self.block = block
        self.total = jnp.zeros((LANES, LANES), jnp.float32)
        self.lane = jax.lax.broadcasted_iota(jnp.int32, (LANES, LANES), 1)

    def add(self, kind: int, pack: int, stacked: Array) -> None:
        """Sums over the lanes of `stacked [128, D]`."""
        column = jnp.sum(stacked, axis=1, keepdims=True)
        self.total = jnp.where(self.lane == kind * self.block.packs + pack, column, self.total)

    def add_packed(self, kind: int, pack: int, packed: Array) -> None:
        """Sums over the lanes of each member of `packed [C, 128]`."""
        self.add(kind, pack, jnp.concatenate([self.block.keep_head(packed, m) for m in range(self.block.pack)]))

    def rows(self, more: dict[tuple[int, int], Array]) -> Array:
        """`[KINDS packs, 128]`, with the rows of `more` added."""
        packs = self.block.packs
        zero = jnp.zeros((1, LANES), jnp.float32)
        given = [more.get((kind, pack), zero) for kind in range(KINDS) for pack in range(packs)]
        return self.total.T[: KINDS * packs] + jnp.concatenate(given)


def backward_kernel(
    q_ref,
    k_ref,
    v_ref,
    gates_ref,
    do_ref,
    saved_ref,
    last_ref,
    dq_ref,
    dk_ref,
    dv_ref,
    dgates_ref,
    first_ref,
    states,
    error_store,
    inverse_store,
    decay_store,
    gram_store,
    carry,
    semaphore,
    *,
    block: Block,
    every: int,
):
    b, j, segment, step = (pl.program_id(i) for i in range(4))
    heads = pl.ds(pl.multiple_of(j * block.heads, block.heads), block.heads)
    at = jnp.minimum(step, 2 * every - 1 - step)
    packs = range(block.packs)
    k = [columns(k_ref[0], i, block.key_dim) for i in range(block.key_heads)]

    @pl.when((segment == 0) & (step == 0))
    def _():
        copy = pltpu.make_async_copy(last_ref.at[b, heads], carry, semaphore)
        copy.start()
        copy.wait()

    @pl.when(step == 0)
    def _():
        copy = pltpu.make_async_copy(saved_ref.at[0, 0], states.at[0], semaphore)
        copy.start()
        copy.wait()

    @pl.when(step < every)
    def _():
        v = [columns(v_ref[0], h, block.value_dim) for h in range(block.heads)]
        gates = Gates.from_logarithm(gates_ref[0, 0, 0], block)
        state = [states[at, h] for h in range(block.heads)]
        decay, gram, inverse, error, new = forward_walk(k, v, gates, state, block)
        for p in packs:
            decay_store[at, p] = decay[p]
            gram_store[at, p] = gram[p]
            inverse_store[at, p] = inverse[p].astype(block.dtype)
            error_store[at, p] = error[p].astype(block.dtype)
        for h in range(block.heads):
            states[at + 1, h] = new[h]

    @pl.when(step >= every)
    def _():
        q = [columns(q_ref[0], i, block.key_dim) for i in range(block.key_heads)]
        do = [columns(do_ref[0], h, block.value_dim) for h in range(block.heads)]
        d_q, d_k, d_right, d_gates, new = backward_chunk(
            q,
            k,
            do,
            Gates.from_logarithm(gates_ref[0, 0, 0], block),
            [states[at, h] for h in range(block.heads)],
            [decay_store[at, p] for p in packs],
            [gram_store[at, p] for p in packs],
            [inverse_store[at, p] for p in packs],
            [error_store[at, p] for p in packs],
            [carry[h] for h in range(block.heads)],
            block,
        )
        for i in range(block.key_heads):
            width = slice(i * block.key_dim, (i + 1) * block.key_dim)
            dq_ref[0, :, width] = d_q[i].astype(dq_ref.dtype)
            dk_ref[0, :, width] = d_k[i].astype(dk_ref.dtype)
        for h in range(block.heads):
            width = slice(h * block.value_dim, (h + 1) * block.value_dim)
            part = block.stacked_part(d_right[h // block.pack], h % block.pack)
            dv_ref[0, :, width] = part.astype(dv_ref.dtype)
            carry[h] = new[h]
        dgates_ref[0, 0, 0] = d_gates

    @pl.when((segment == pl.num_programs(2) - 1) & (step == 2 * every - 1))
    def _():
        copy = pltpu.make_async_copy(carry, first_ref.at[b, heads], semaphore)
        copy.start()
        copy.wait()


@functools.partial(jax.jit, static_argnames=("block", "every", "interpret"))
def backward_call(q, k, v, gates, do, saved, last, *, block: Block, every: int, interpret: bool):
    """Inputs as in `forward_call`, with do as o, `saved` and the gradient `last` of the final state.

    Returns dq, dk (one a block of value heads where several share a key head), dv, dgates and the gradient of the
    first state. The gradients take the place of their inputs in memory: a block is written after its last reading.
    The chunks of a segment must be whole: N is a multiple of `every`.
    """
    batch, steps, width = v.shape
    value_heads = width // block.value_dim
    segments = saved.shape[1]
    blocks = value_heads // block.heads
    per = max(1, block.group // block.heads)
    state_shape = (block.key_dim, block.value_dim)

    def walked(s, i):  # forward, then backward
        return (segments - 1 - s) * every + jnp.minimum(i, 2 * every - 1 - i)

    def returned(s, i):  # waits at the last chunk until the walk turns
        return (segments - 1 - s) * every + jnp.minimum(every - 1, 2 * every - 1 - i)

    def needed(s, i):  # of values only the forward walk has need
        return (segments - 1 - s) * every + jnp.minimum(i, every - 1)

    def tokens(width: int, share: int, chunk_of) -> pl.BlockSpec:
        return pl.BlockSpec((1, block.chunk, width), lambda b, j, s, i: (b, chunk_of(s, i), jax.lax.div(j, share)))

    def gate_spec(chunk_of) -> pl.BlockSpec:
        shape = (1, 1, 1, KINDS * block.packs, LANES)
        return pl.BlockSpec(shape, lambda b, j, s, i: (b, j, chunk_of(s, i), 0, 0))

    key_width, value_width = block.key_heads * block.key_dim, block.heads * block.value_dim
    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    saved_spec = pl.BlockSpec((1, 1, block.heads, *state_shape), lambda b, j, s, i: (b, segments - 1 - s, j, 0, 0))
    key_shape = (batch, steps, blocks * key_width)
    square = (every, block.packs, block.chunk, LANES)
    work = batch * steps * value_heads
    c, dk, dv = block.chunk, block.key_dim, block.value_dim
    moved = sum(x.size * x.dtype.itemsize for x in (q, k, k, v, v, v, do, gates, gates, gates, saved))
    moved += 2 * batch * steps * blocks * key_width * q.dtype.itemsize
    return pl.pallas_call(
        functools.partial(backward_kernel, block=block, every=every),
        grid=(batch, blocks, segments, 2 * every),
        in_specs=[
            tokens(key_width, per, returned),
            tokens(key_width, per, walked),
            tokens(value_width, 1, needed),
            gate_spec(walked),
            tokens(value_width, 1, returned),
            saved_spec,
            anywhere,
        ],
        out_specs=[
            tokens(key_width, 1, returned),
            tokens(key_width, 1, returned),
            tokens(value_width, 1, returned),
            gate_spec(returned),
            anywhere,
        ],
        out_shape=[
            jax.ShapeDtypeStruct(key_shape, q.dtype),
            jax.ShapeDtypeStruct(key_shape, k.dtype),
            jax.ShapeDtypeStruct(v.shape, v.dtype),
            jax.ShapeDtypeStruct(gates.shape, jnp.float32),
            jax.ShapeDtypeStruct(last.shape, jnp.float32),
        ],
        scratch_shapes=[
            pltpu.VMEM((every + 1, block.heads, *state_shape), jnp.float32),
            pltpu.VMEM((every, block.packs, LANES, block.value_dim), block.dtype),
            pltpu.VMEM(square, block.dtype),
            pltpu.VMEM(square, jnp.float32),
            pltpu.VMEM(square, jnp.float32),
            pltpu.VMEM((block.heads, *state_shape), jnp.float32),
            pltpu.SemaphoreType.DMA,
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary", "arbitrary"), vmem_limit_bytes=VMEM_LIMIT
        ),
        cost_estimate=pl.CostEstimate(
            flops=2 * work * (c * dk + 2 * dk * dv + c * dv + 4 * c * dk + 4 * c * dv + 6 * dk * dv),
            bytes_accessed=moved,
            transcendentals=work * c,
        ),
        input_output_aliases={2: 2, 3: 3, 6: 4} | ({0: 0, 1: 1} if per == 1 else {}),
        interpret=interpret,
        name="gated_delta_rule_backward",
    )(q, k, v, gates, do, saved, last)
