"""What the Pallas kernels share: the shape of a block of heads, and the algebra of one chunk.

Matrices of [C, C] are kept *packed*: P = 128 / C heads stand side by side in the 128 lanes of a register, so that no
lane idles, and `block_diagonal` turns them into the [128, 128] operand that the matrix unit wants. Rows of P heads
stand *stacked*: [P C, D].
"""

from collections.abc import Sequence
import dataclasses

import jax
from jax import Array
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp
import numpy as np

LANES = 128
BASE = 8  # a diagonal block of 8 is inverted by substitution: it fills the sublanes of one register
VMEM_LIMIT = 56 << 20  # v5p has 64 MiB a core, v5e and v6e 128

# Kinds of gates: running sum of log decay; beta; log of the decay since the chunk's start (-inf once the segment has
# changed); beta times the decay to the chunk's end (0 before the last segment); segment, counted from the first one.
LOG_DECAY, BETA, START, END, SEGMENT = range(5)
KINDS = 5

CONTRACT_FIRST = (((0,), (0,)), ((), ()))
CONTRACT_LAST = (((1,), (1,)), ((), ()))
CONTRACT = (((1,), (0,)), ((), ()))


@dataclasses.dataclass(frozen=True)
class Block:
    """The heads that one grid step works on, and how they lie in registers."""

    heads: int
    group: int  # value heads a key head
    chunk: int
    key_dim: int
    value_dim: int
    scale: float
    precise: bool  # float32 operands and products of six passes; else one pass of bfloat16 operands
    segmented: bool

    @property
    def key_heads(self) -> int:
        return max(1, self.heads // self.group)

    @property
    def pack(self) -> int:
        return LANES // self.chunk

    @property
    def packs(self) -> int:
        return self.heads // self.pack

    def members(self, pack: int) -> range:
        return range(pack * self.pack, (pack + 1) * self.pack)

    def key_of(self, head: int) -> int:
        return head // self.group

    @property
    def dtype(self):
        return jnp.float32 if self.precise else jnp.bfloat16

    def dot(self, a: Array, b: Array, contract=CONTRACT) -> Array:
        """A product on the matrix unit, summed in float32."""
        precision = jax.lax.Precision.HIGHEST if self.precise else jax.lax.Precision.DEFAULT
        a, b = a.astype(self.dtype), b.astype(self.dtype)
        return jax.lax.dot_general(a, b, contract, precision=precision, preferred_element_type=jnp.float32)

    def keep_head(self, x: Array, member: int) -> Array:
        """Packed `x [rows, 128]` with the lanes of the other members set to zero."""
        if self.pack == 1:
            return x
        if x.dtype == jnp.bfloat16:  # the vector unit of v5 has no bfloat16: keep bits instead
            bits = pltpu.bitcast(x, jnp.int32)
            lane = jax.lax.broadcasted_iota(jnp.int32, bits.shape, 1)
            kept = jnp.where(quotient(lane, self.chunk) == member, -1, 0)
            return pltpu.bitcast(bits & kept, jnp.bfloat16)
        lane = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
        return jnp.where(quotient(lane, self.chunk) == member, x, 0.0)

    def block_diagonal(self, x: Array) -> Array:
        """Packed `[C, 128]` -> `[128, 128]` with the heads' matrices on the diagonal."""
        x = x.astype(self.dtype)
        return jnp.concatenate([self.keep_head(x, m) for m in range(self.pack)]) if self.pack > 1 else x

    def packed(self, per_head: Sequence[Array]) -> Array:
        """Takes the lanes of member m from `per_head[m] [rows, 128]`."""
        out = per_head[0]
        lane = jax.lax.broadcasted_iota(jnp.int32, out.shape, 1)
        for m in range(1, self.pack):
            if per_head[m] is not per_head[0]:
                out = jnp.where(quotient(lane, self.chunk) >= m, per_head[m], out)
        return out

    def stacked(self, per_head: Sequence[Array], pack: int) -> Array:
        return jnp.concatenate([per_head[h] for h in self.members(pack)])

    def stacked_part(self, x: Array, member: int) -> Array:
        return x[member * self.chunk : (member + 1) * self.chunk]

    def packed_column(self, column: Array) -> Array:
        """Stacked `[128, 1]` -> packed `[C, 128]`: every lane of a member holds that member's column."""
        wide = jnp.broadcast_to(column, (LANES, LANES))
        return self.packed([self.stacked_part(wide, m) for m in range(self.pack)])


def quotient(x: Array, power_of_two: int) -> Array:
    """x // power_of_two of whole numbers from 0 on; `//` itself asks for the kind of TPU."""
    return x >> (power_of_two.bit_length() - 1)


def remainder(x: Array, power_of_two: int) -> Array:
    return x & (power_of_two - 1)


def unit_lower_inverse(lower: Sequence[Array], block: Block) -> list[Array]:
    """(I + tril(L, -1))^-1 of packed `L [C, 128]` float32, one a pack; stage by stage over all of them.

    Diagonal blocks of 8 by forward substitution in float32, on the vector unit, all blocks of a pack in one register;
    then blocks of b become blocks of 2b: the lower half of each pair gets X - X L X, and only these rows are streamed
    through the matrix unit. No power of L is formed, so that correlated keys do not blow it up.
    """
    chunk, packs = block.chunk, len(lower)
    lane = jax.lax.broadcasted_iota(jnp.int32, (BASE, LANES), 1)
    row = jax.lax.broadcasted_iota(jnp.int32, (BASE, LANES), 0)
    owner = quotient(remainder(lane, chunk), BASE)  # the diagonal block that a lane belongs to
    below = row > remainder(lane, BASE)
    diagonal = []
    for x in lower:
        blocks = x[:BASE]
        for r in range(1, chunk // BASE):
            blocks = jnp.where(owner == r, x[r * BASE : (r + 1) * BASE], blocks)
        diagonal.append(jnp.where(below, blocks, 0.0))
    inverse = [jnp.where(row == remainder(lane, BASE), 1.0, 0.0)] * packs
    for j in range(BASE - 1):
        for p in range(packs):
            column = jnp.take_along_axis(
                diagonal[p], lane - remainder(lane, BASE) + j, axis=1, mode="promise_in_bounds"
            )
            inverse[p] = inverse[p] - column * jnp.broadcast_to(inverse[p][j : j + 1], (BASE, LANES))
    # Rows by blocks of 8: the upper halves are never touched again.
    rows = [[jnp.where(owner == r, x, 0.0) for r in range(chunk // BASE)] for x in inverse]

    wide_lower = [block.block_diagonal(x) for x in lower]
    width = BASE
    while width < chunk:
        per, pairs = width // BASE, chunk // (2 * width)
        odd_rows = [(2 * pair + 1) * per + i for pair in range(pairs) for i in range(per)]
        odd = [jnp.concatenate([rows[p][r] for r in odd_rows]) for p in range(packs)]
        wide = [block.block_diagonal(jnp.concatenate(rows[p])) for p in range(packs)]
        joined = [block.dot(odd[p], wide_lower[p]) for p in range(packs)]
        lanes = quotient(remainder(jax.lax.broadcasted_iota(jnp.int32, joined[0].shape, 1), chunk), width)
        pair = quotient(jax.lax.broadcasted_iota(jnp.int32, joined[0].shape, 0), width)
        joined = [jnp.where(lanes == 2 * pair, x, 0.0) for x in joined]
        correction = [block.dot(joined[p], wide[p]) for p in range(packs)]
        for p in range(packs):
            for i, r in enumerate(odd_rows):
                rows[p][r] = rows[p][r] - correction[p][i * BASE : (i + 1) * BASE]
        width *= 2
    return [jnp.concatenate(x) for x in rows]


class Gates:
    """Rows and columns of the gates of a chunk, `[KINDS packs, 128]`: kinds outermost, then packs; lanes are time."""

    def __init__(self, rows: Array, block: Block):
        self.block = block
        self.rows = rows
        self.turned = rows.T

    @classmethod
    def from_logarithm(cls, rows: Array, block: Block) -> "Gates":
        """Of rows as they lie in HBM, where the decay since the chunk's start is given by its logarithm."""
        at = START * block.packs
        start = jnp.exp(rows[at : at + block.packs])
        return cls(jnp.concatenate([rows[:at], start, rows[at + block.packs :]]), block)

    def row(self, kind: int, pack: int) -> Array:
        at = kind * self.block.packs + pack
        return self.rows[at : at + 1]

    def column(self, kind: int, pack: int) -> Array:
        """Stacked `[128, 1]`."""
        at = kind * self.block.packs + pack
        return self.turned[:, at : at + 1]

    def wide_column(self, kind: int, pack: int) -> Array:
        return jnp.broadcast_to(self.column(kind, pack), (LANES, self.block.value_dim))

    def decay(self, pack: int) -> Array:
        """Packed exp(G_i - G_j) for j <= i of one segment, else 0: masked before exp, so that nothing overflows."""
        block = self.block
        lane = jax.lax.broadcasted_iota(jnp.int32, (block.chunk, LANES), 1)
        row = jax.lax.broadcasted_iota(jnp.int32, (block.chunk, LANES), 0)
        visible = row >= remainder(lane, block.chunk)
        if block.segmented:
            visible &= block.packed_column(self.column(SEGMENT, pack)) == self.row(SEGMENT, pack)
        difference = block.packed_column(self.column(LOG_DECAY, pack)) - self.row(LOG_DECAY, pack)
        return jnp.exp(jnp.where(visible, difference, -np.inf))


def columns(x: Array, index: int, width: int) -> Array:
    return x[:, index * width : (index + 1) * width]


def scores(left: list[Array], k: list[Array], block: Block) -> list[Array]:
    """Packed left K^T, by pack; the product of a key head is made once for all its value heads of the pack."""
    out = []
    for pack in range(block.packs):
        used = [block.key_of(h) for h in block.members(pack)]
        wide = jnp.concatenate([k[u] for u in used])
        products = {u: block.dot(left[u], wide, CONTRACT_LAST) for u in dict.fromkeys(used)}
        out.append(block.packed([products[u] for u in used]))
    return out


def errors(inverse, v, seen, start, block: Block) -> list[Array]:
    """E = (I + A beta)^-1 (V - e^G K S), stacked, by pack."""
    right = [block.stacked(v, p).astype(jnp.float32) - start[p] * block.stacked(seen, p) for p in range(block.packs)]
    return [block.dot(block.block_diagonal(inverse[p]), right[p]) for p in range(block.packs)]


def next_states(k, error, gates: Gates, start, state, block: Block) -> list[Array]:
    """e^(G_last) S + K^T (beta e^(G_last - G)) E, by head."""
    new = []
    for p in range(block.packs):
        weighted = (gates.wide_column(END, p) * error[p]).astype(block.dtype)
        for m, h in enumerate(block.members(p)):
            last = (m + 1) * block.chunk - 1
            added = block.dot(k[block.key_of(h)], block.stacked_part(weighted, m), CONTRACT_FIRST)
            new.append(start[p][last : last + 1] * state[h] + added)
    return new
