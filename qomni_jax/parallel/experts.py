"""Experts that stay where they are while tokens travel: a gather over the mesh axis `expert`, and a scatter back."""

from collections.abc import Callable

import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from qomni_jax.parallel.rules import partition_spec

AXIS = "expert"
ExpertProduct = Callable[[Array, Array, Array, Array, Array], Array]


def ring_dispatch(
    product: ExpertProduct, x: Array, experts: Array, weights: Array, gate_up: Array, down: Array
) -> Array:
    """`product(x, experts, weights, gate_up, down)` over the mesh of `jax.set_mesh`, arguments as `ops.moe.expert_mlp`.

    Each device gathers the tokens of its ring, applies its own experts to them, and the results are summed and
    scattered back to where the tokens came from. A pair whose expert lives elsewhere is computed here with weight 0:
    no token is dropped and shapes are fixed, at the price of that work; meant for few tokens (decoding), where the
    weights must not move. Without a mesh, or where `expert` does not divide the experts, `product` itself.
    """
    mesh = jax.sharding.get_abstract_mesh()
    parts = 1 if mesh.empty or mesh.manual_axes else mesh.shape.get(AXIS, 1)
    if parts == 1 or gate_up.shape[0] % parts:
        return product(x, experts, weights, gate_up, down)
    rows = partition_spec(mesh, ("batch", None), x.shape)
    entry = rows[0]
    travels = AXIS in ((entry,) if isinstance(entry, str) else entry or ())

    def on_device(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array) -> Array:
        here = gate_up.shape[0]
        if travels:
            x, experts, weights = (jax.lax.all_gather(a, AXIS, tiled=True) for a in (x, experts, weights))
        local = experts - jax.lax.axis_index(AXIS) * here
        mine = (local >= 0) & (local < here)
        y = product(x, jnp.where(mine, local, here - 1), jnp.where(mine, weights, 0), gate_up, down)
        return jax.lax.psum_scatter(y, AXIS, tiled=True) if travels else jax.lax.psum(y, AXIS)

    spread = PartitionSpec(AXIS)
    call = jax.shard_map(
        on_device, mesh=mesh, in_specs=(rows, rows, rows, spread, spread), out_specs=rows, check_vma=False
    )
    return call(x, experts, weights, gate_up, down)
