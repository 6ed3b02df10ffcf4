"""Where a patch stands in its frame, and what the learned table of positions gives there."""

from jax import Array
import jax.numpy as jnp

from qomni_jax.ops.precision import wide


def patch_coordinates(grids: Array, length: int, merge_size: int) -> tuple[Array, Array]:
    """Grids `[R, 2]` (h, w) in patches -> row and column `[R, length]` int32 of patches in merge-block order."""
    at = jnp.arange(length, dtype=jnp.int32)
    block, inside = at // merge_size**2, at % merge_size**2
    blocks_across = jnp.maximum(grids[:, 1:].astype(jnp.int32) // merge_size, 1)
    rows = block // blocks_across * merge_size + inside // merge_size
    columns = block % blocks_across * merge_size + inside % merge_size
    return rows, columns


def resampled_positions(table: Array, grids: Array, rows: Array, columns: Array) -> Array:
    """The table `[S * S, D]`, stretched over each frame so that its corners meet the frame's -> `[R, L, D]`.

    Bilinear, float32 or better; a frame of one row or column takes the table's first.
    """
    side, dtype = int(table.shape[0] ** 0.5), wide(table.dtype)
    (top, down), (left, right) = (
        _place(at.astype(dtype), grids[:, axis : axis + 1], side) for axis, at in ((0, rows), (1, columns))
    )
    total = jnp.zeros((*rows.shape, table.shape[1]), dtype)
    for y, vertical in ((top, 1.0 - down), (jnp.minimum(top + 1, side - 1), down)):
        for x, horizontal in ((left, 1.0 - right), (jnp.minimum(left + 1, side - 1), right)):
            total = total + table[y * side + x].astype(dtype) * (vertical * horizontal)[..., None]
    return total


def _place(at: Array, size: Array, side: int) -> tuple[Array, Array]:
    """The entry of the table before each patch, and how far the patch is from it to the next one, in 0..1."""
    exact = at * ((side - 1) / jnp.maximum(size - 1, 1).astype(at.dtype))
    exact = jnp.minimum(exact, side - 1)  # padding lies outside
    before = jnp.floor(exact).astype(jnp.int32)
    return before, exact - before
