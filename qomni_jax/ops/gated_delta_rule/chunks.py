"""How the chunked form cuts its work: tiles of batch rows and heads, chunks of tokens, and the gates of a chunk."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

Index = Array | int


class Plan(NamedTuple):
    """Tokens a chunk, chunks a step of the scan, the batch rows and key heads that one scan carries (a tile), and
    whether q and k are to be scaled to unit length."""

    chunk: int
    stride: int
    rows: int
    heads: int
    normalize: bool


def largest_tile(batch: int, key_heads: int, state_bytes: int, limit: int) -> tuple[int, int]:
    """(rows, heads): the most batch rows with all heads, else the most key heads of one row, within `limit` bytes.

    `state_bytes` are those of the states of one key head.
    """
    fitting = max(1, limit // state_bytes)

    def divisor(total: int, limit: int) -> int:
        return max(n for n in range(1, total + 1) if total % n == 0 and n <= limit)

    if fitting >= key_heads:
        return divisor(batch, fitting // key_heads), key_heads
    return 1, divisor(key_heads, fitting)


class Tiles:
    """Reads and writes chunks `[R, C, D]` of `[B, T, H, D]`, R running over a tile's batch rows and value heads."""

    def __init__(self, plan: Plan, q: Array, v: Array):
        self.plan = plan
        batch, steps, self.key_heads, self.key_dim = q.shape
        value_heads, self.value_dim = v.shape[2:]
        self.group = value_heads // self.key_heads
        self.across = self.key_heads // plan.heads  # tiles beside each other along the heads
        self.count = batch // plan.rows * self.across
        self.chunks = steps // plan.chunk
        self.rows = plan.rows * plan.heads * self.group

    def read(self, x: Array, tile: Index, chunk: Index) -> Array:
        """A chunk of `x`, whose heads are key heads or value heads, in float32."""
        heads = self._heads(x)
        size = (self.plan.rows, self.plan.chunk, heads, x.shape[3])
        x = jax.lax.dynamic_slice(x, self._start(heads, tile, chunk), size)
        return jnp.moveaxis(x, 2, 1).reshape(-1, self.plan.chunk, x.shape[3]).astype(jnp.float32)

    def write(self, x: Array, value: Array, tile: Index, chunk: Index) -> Array:
        """`x` with a chunk replaced."""
        heads = self._heads(x)
        value = value.reshape(self.plan.rows, heads, self.plan.chunk, x.shape[3])
        value = jnp.moveaxis(value, 1, 2).astype(x.dtype)
        return jax.lax.dynamic_update_slice(x, value, self._start(heads, tile, chunk))

    def repeat(self, x: Array) -> Array:
        """Key heads for their value heads: `[R / group, ...] -> [R, ...]`, one chunk at a time."""
        return x if self.group == 1 else jnp.repeat(x, self.group, axis=0)

    def sum_groups(self, x: Array) -> Array:
        """What the value heads of a group say of their key head, summed: `[R, ...] -> [R / group, ...]`."""
        return x if self.group == 1 else x.reshape(-1, self.group, *x.shape[1:]).sum(1)

    def scan(self, body: Callable, carry: Any, start: Any, *, reverse: bool = False) -> tuple[Any, Any]:
        """Runs `body(carry, local, tile, step) -> (carry, local)` over the steps of every tile, in order or reversed.

        `carry` goes through all tiles, `local` begins at `start[tile]`. Returns the carry, and every tile's last local.
        """
        steps = np.arange(self.chunks // self.plan.stride)

        def run(carry: Any, inputs: Any) -> tuple[Any, Any]:
            tile, local = inputs
            both, _ = jax.lax.scan(lambda c, step: (body(*c, tile, step), None), (carry, local), steps, reverse=reverse)
            return both

        if self.count > 1:
            return jax.lax.scan(run, carry, (np.arange(self.count), start))
        carry, local = run(carry, (0, jax.tree.map(lambda x: x[0], start)))
        return carry, jax.tree.map(lambda x: x[None], local)

    def _heads(self, x: Array) -> int:
        return self.plan.heads * (x.shape[2] // self.key_heads)

    def _start(self, heads: int, tile: Index, chunk: Index) -> tuple[Index, ...]:
        row, head = (tile // self.across * self.plan.rows, tile % self.across * heads) if self.count > 1 else (0, 0)
        return row, chunk * self.plan.chunk, head, 0


class Gates(NamedTuple):
    """What g, beta and the segments say of every row and token of one chunk."""

    beta: Array  # [R, C]
    from_start: Array  # [R, C], e^G: the share of the state before the chunk that is left at a token
    to_end: Array  # [R, C], e^(G_last - G): the share of a token's update that is left at the chunk's end
    decay: Array  # [R, C, C], D: from a token to a later one


class AllGates(NamedTuple):
    """The same of all chunks, with leading axes `[tiles, N]`; D is made chunk by chunk, from what it is made of."""

    beta: Array
    from_start: Array
    to_end: Array
    total: Array  # [tiles, N, R, C], G
    segments: Array | None

    def at(self, tile: Index, chunk: Index) -> Gates:
        total = take(self.total, tile, chunk)
        visible = np.tril(np.ones((total.shape[-1],) * 2, bool))
        if self.segments is not None:
            segments = take(self.segments, tile, chunk)
            visible = visible & (segments[..., :, None] == segments[..., None, :])
        # Masked before the exponential: above the diagonal it would overflow.
        difference = jnp.where(visible, total[..., :, None] - total[..., None, :], 0.0)
        decay = jnp.where(visible, jnp.exp(difference), 0.0)
        beta, from_start, to_end = (take(x, tile, chunk) for x in (self.beta, self.from_start, self.to_end))
        return Gates(beta, from_start, to_end, decay)


def make_gates(tiles: Tiles, g: Array, beta: Array, segment_ids: Array | None) -> AllGates:
    total = jnp.cumsum(by_row(tiles, g.astype(jnp.float32)), axis=-1)
    from_start, to_end = jnp.exp(total), jnp.exp(total[..., -1:] - total)
    segments = None
    if segment_ids is not None:
        segments = by_row(tiles, jnp.broadcast_to(segment_ids[..., None], g.shape))
        before = jnp.concatenate([segments[:, :1, :, :1], segments[:, :-1, :, -1:]], axis=1)
        from_start = jnp.where(segments == before, from_start, 0.0)
        to_end = jnp.where(segments == segments[..., -1:], to_end, 0.0)
    return AllGates(by_row(tiles, beta.astype(jnp.float32)), from_start, to_end, total, segments)


def by_row(tiles: Tiles, x: Array) -> Array:
    """`[B, T, HV] -> [tiles, N, R, C]`"""
    x = jnp.moveaxis(x, 2, 1).reshape(tiles.count, tiles.rows, tiles.chunks, tiles.plan.chunk)
    return jnp.moveaxis(x, 2, 1)


def by_token(x: Array, shape: tuple[int, ...]) -> Array:
    """`[tiles, N, R, C] -> [B, T, HV]`, the inverse of `by_row`."""
    batch, steps, heads = shape
    return jnp.moveaxis(jnp.moveaxis(x, 2, 1).reshape(batch, heads, steps), 1, 2)


def take(x: Array, tile: Index, index: Index) -> Array:
    """`x[tile, index]`"""
    return jax.lax.dynamic_slice(x, (tile, index, *[0] * (x.ndim - 2)), (1, 1, *x.shape[2:]))[0, 0]


def put(x: Array, value: Array, tile: Index, index: Index) -> Array:
    """`x` with `x[tile, index]` replaced."""
    return jax.lax.dynamic_update_slice(x, value[None, None], (tile, index, *[0] * (x.ndim - 2)))
