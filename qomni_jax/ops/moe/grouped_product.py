"""The grouped product on a TPU, forward and backward: the megablox kernels that ship with jax, with tiles of ours.

A tile of rows that several experts share is computed once for each of them. There are as many shared tiles as experts,
so that tiles are short: with 1,024 rows an expert, tiles of 512 rows compute half of all rows twice, tiles of 128 an
eighth. What makes short tiles cheap is a block of weights as deep as the product: it stays in place from tile to tile.
"""

import functools

import jax
from jax import Array
from jax.experimental.pallas.ops.tpu.megablox.gmm import gmm, tgmm

ROWS = 128  # of a tile, forward
GRADIENT_ROWS = 256  # of a tile of the weights' gradient, whose sums are read and written once a tile
_DEEPEST, _BLOCK = 4096, 1 << 21  # rows, and numbers, of a block of weights


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def grouped_product(x: Array, weights: Array, sizes: Array, interpret: bool) -> Array:
    """`x [P, D]`, whose first `sizes[0]` rows belong to expert 0 and so on, times `weights [E, D, F]` -> `[P, F]`.

    P is a multiple of `GRADIENT_ROWS`. Rows beyond the sum of `sizes` are left to chance.
    """
    return gmm(x, weights, sizes, x.dtype, forward_tiles, interpret=interpret)


def _forward(x: Array, weights: Array, sizes: Array, interpret: bool) -> tuple[Array, tuple[Array, Array, Array]]:
    return grouped_product(x, weights, sizes, interpret), (x, weights, sizes)


def _backward(interpret: bool, saved: tuple[Array, Array, Array], d_y: Array) -> tuple[Array, Array, None]:
    x, weights, sizes = saved
    d_x = gmm(d_y, weights, sizes, x.dtype, forward_tiles, transpose_rhs=True, interpret=interpret)
    d_weights = tgmm(
        x.swapaxes(0, 1), d_y, sizes, weights.dtype, gradient_tiles, None, weights.shape[0], interpret=interpret
    )
    return d_x, d_weights, None


grouped_product.defvjp(_forward, _backward)


def forward_tiles(rows: int, deep: int, wide: int) -> tuple[int, int, int]:
    """Tile of `[rows, deep] x [deep, wide]`: blocks of weights as deep as they get, at most 4 MiB of bfloat16."""
    del rows
    depth = min(deep, _DEEPEST)
    return ROWS, depth, min(wide, 1024, max(128, _BLOCK // depth // 128 * 128))


def gradient_tiles(rows: int, deep: int, wide: int) -> tuple[int, int, int]:
    """Tile of `[deep, rows] x [rows, wide]`."""
    del rows
    return GRADIENT_ROWS, min(deep, 1024), min(wide, 1024)
