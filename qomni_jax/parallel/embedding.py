"""The embedding table over a mesh: each device looks up its own tokens."""

import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from qomni_jax.parallel.rules import axes_of, partition_spec


def lookup(table: Array, tokens: Array) -> Array:
    """Rows of `table [V, D]` for `tokens [B]` or `[B, T]` -> `[..., D]`, over the mesh of `jax.set_mesh`.

    The table's columns are gathered for it. Left to itself, XLA keeps them where they lie and has every device look up
    the tokens of all others: a result of a few columns and of all rows of the slice. Gradients of a token that stands
    in many places are summed in float32.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.manual_axes or mesh.size == 1:
        return _rows_of(table, tokens)
    rows = partition_spec(mesh, ("batch", "sequence")[: tokens.ndim], tokens.shape)
    spec = partition_spec(mesh, ("vocab", "embed"), table.shape)
    vocab, embed = axes_of(spec, 0), axes_of(spec, 1)

    def on_device(table: Array, tokens: Array) -> Array:
        if embed:
            table = jax.lax.all_gather(table, embed, axis=1, tiled=True)
        if not vocab:
            return _rows_of(table, tokens)
        local = tokens - jax.lax.axis_index(vocab) * table.shape[0]
        mine = (local >= 0) & (local < table.shape[0])
        found = jnp.where(mine[..., None], _rows_of(table, jnp.where(mine, local, 0)), 0)
        return jax.lax.psum(found, vocab)

    call = jax.shard_map(
        on_device, mesh=mesh, in_specs=(spec, rows), out_specs=PartitionSpec(*rows, None), check_vma=False
    )
    return call(table, tokens)


@jax.custom_vjp
def _rows_of(table: Array, tokens: Array) -> Array:
    return table[tokens]


def _forward(table: Array, tokens: Array) -> tuple[Array, tuple[Array, Array]]:
    return table[tokens], (table, tokens)


def _backward(saved: tuple[Array, Array], d_rows: Array) -> tuple[Array, None]:
    table, tokens = saved
    total = jnp.zeros(table.shape, jnp.float32).at[tokens].add(d_rows.astype(jnp.float32))
    return total.astype(table.dtype), None


_rows_of.defvjp(_forward, _backward)
