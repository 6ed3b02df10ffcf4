"""How tokens reach experts that are spread over the mesh axis `expert`: three dispatches behind one signature."""

from collections.abc import Callable
import functools

import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from qomni_jax.ops.moe.grouping import combine, group_by_expert, spread
from qomni_jax.ops.moe.passes import ExpertProduct
from qomni_jax.parallel.kernels import sharded
from qomni_jax.parallel.ragged import AXIS, visit_experts
from qomni_jax.parallel.rules import mesh_axes, partition_spec

DISPATCHES = ("local", "ring", "ragged")


def dispatch_experts(
    dispatch: str,
    product: ExpertProduct,
    x: Array,
    experts: Array,
    weights: Array,
    gate_up: Array,
    down: Array,
    *,
    headroom: float = 2.0,
) -> Array:
    """`product(x, experts, weights, gate_up, down)` over the mesh of `jax.set_mesh`, arguments as `ops.moe.expert_mlp`.

    No token is ever dropped. `product` must take E in `experts` for "none".

    - `local`: each device works on its own tokens, with all experts' weights gathered for that; for many tokens a
      device, and where weights are spread over other axes anyway.
    - `ring`: weights stay. Each device gathers the tokens of its ring, applies its own experts to them, and the results
      are summed and scattered back. Moves every token to every device; for few tokens (decoding).
    - `ragged`: weights stay. Each token travels to the devices of its experts and to no other, in a ragged all-to-all;
      `headroom` is the size of a device's buffer for what arrives, over what would arrive if the load were balanced.
      Where more arrives, it comes in further rounds.

    Without a mesh, or where its axis `expert` has size 1, nothing travels.

    Raises ValueError for an unknown dispatch, for experts that the axis does not divide (`ring`, `ragged`), and for
    `ragged` on a CPU, which has no ragged all-to-all.
    """
    if dispatch not in DISPATCHES:
        raise ValueError(f"dispatch {dispatch!r}: accepted is one of {', '.join(DISPATCHES)}")
    mesh = jax.sharding.get_abstract_mesh()
    if dispatch == "ragged":
        _require_ragged_all_to_all(mesh)
    args = (x, experts, weights, gate_up, down)
    if dispatch == "local":
        rows, whole = ("tokens", None), (None, None, None)
        return sharded(product, (rows, rows, rows, whole, whole), rows)(*args)
    parts = 1 if mesh.empty or mesh.manual_axes else mesh.shape.get(AXIS, 1)
    if parts == 1:
        return product(*args)
    if gate_up.shape[0] % parts:
        raise ValueError(
            f"dispatch {dispatch!r}: {gate_up.shape[0]} experts over a mesh axis {AXIS!r} of size {parts}: accepted is "
            f"a multiple of {parts} experts"
        )
    return _ring(product, mesh, *args) if dispatch == "ring" else _ragged(product, mesh, headroom, *args)


def _ring(
    product: ExpertProduct, mesh: jax.sharding.AbstractMesh, x: Array, experts: Array, weights: Array, *matrices: Array
) -> Array:
    rows = partition_spec(mesh, ("batch", None), x.shape)
    entry = rows[0]
    travels = AXIS in ((entry,) if isinstance(entry, str) else entry or ())

    def on_device(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array) -> Array:
        here = gate_up.shape[0]
        if travels:
            x, experts, weights = (jax.lax.all_gather(a, AXIS, tiled=True) for a in (x, experts, weights))
        local = experts - jax.lax.axis_index(AXIS) * here
        y = product(x, jnp.where((local >= 0) & (local < here), local, here), weights, gate_up, down)
        return jax.lax.psum_scatter(y, AXIS, tiled=True) if travels else jax.lax.psum(y, AXIS)

    return _on_mesh(on_device, mesh, rows)(x, experts, weights, *matrices)


def _ragged(
    product: ExpertProduct,
    mesh: jax.sharding.AbstractMesh,
    headroom: float,
    x: Array,
    experts: Array,
    weights: Array,
    gate_up: Array,
    down: Array,
) -> Array:
    tokens, num_experts = x.shape[0], gate_up.shape[0]
    shards = 1
    for axis in mesh_axes("batch"):
        shards *= mesh.shape.get(axis, 1)
    # Rows are spread over every axis of the batch; a few more tokens, which go nowhere, make that possible.
    more = ((0, -tokens % shards), (0, 0))
    x, weights = jnp.pad(x, more), jnp.pad(weights, more)
    experts = jnp.pad(experts, more, constant_values=num_experts)

    def on_device(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array) -> Array:
        groups = group_by_expert(experts, num_experts)
        visit = functools.partial(visit_experts, product, headroom, experts.shape[1])
        rows = visit(spread(x, groups), groups.end - groups.start, gate_up, down)
        return combine(rows, weights, groups)

    rows = partition_spec(mesh, ("batch", None), x.shape)
    return _on_mesh(on_device, mesh, rows)(x, experts, weights, gate_up, down)[:tokens]


def _on_mesh(
    on_device: Callable[..., Array], mesh: jax.sharding.AbstractMesh, rows: PartitionSpec
) -> Callable[..., Array]:
    spread_out = PartitionSpec(AXIS)
    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(rows, rows, rows, spread_out, spread_out), out_specs=rows, check_vma=False
    )


def _require_ragged_all_to_all(mesh: jax.sharding.AbstractMesh) -> None:
    # Programs are also compiled for devices that are not there: the mesh says for which.
    device = mesh.abstract_device
    platform = jax.default_backend() if device is None else device.platform
    if platform == "cpu":
        accepted = ", ".join(d for d in DISPATCHES if d != "ragged")
        raise ValueError(f"dispatch 'ragged' on a CPU, which has no ragged all-to-all: accepted there is {accepted}")
