"""How tokens reach experts that are spread over the mesh: three dispatches behind one signature."""

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
from qomni_jax.parallel.rules import axes_of, mesh_axes, partition_spec

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
      are summed and scattered back. Moves every token to every device of the ring, which goes over all mesh axes that
      experts are spread over; for few tokens (decoding), and for the cores of a CPU.
    - `ragged`: weights stay where the axis `expert` has them. Each token travels to the devices of its experts and to
      no other, in a ragged all-to-all; `headroom` is the size of a device's buffer for what arrives, over what would
      arrive if the load were balanced. Where more arrives, it comes in further rounds.

    Where the mesh spreads no experts, all three are `local`, and without a mesh nothing travels.

    Raises ValueError for an unknown dispatch, for experts that the axis `expert` does not divide (`ring`, `ragged`),
    and for `ragged` on a CPU, which has no ragged all-to-all.
    """
    if dispatch not in DISPATCHES:
        raise ValueError(f"dispatch {dispatch!r}: accepted is one of {', '.join(DISPATCHES)}")
    mesh = jax.sharding.get_abstract_mesh()
    if dispatch == "ragged":
        _require_ragged_all_to_all(mesh)
    args = (x, experts, weights, gate_up, down)
    sizes = {} if mesh.empty or mesh.manual_axes else mesh.shape
    parts = sizes.get(AXIS, 1)
    if dispatch != "local" and gate_up.shape[0] % parts:
        raise ValueError(
            f"dispatch {dispatch!r}: {gate_up.shape[0]} experts over a mesh axis {AXIS!r} of size {parts}: accepted is "
            f"a multiple of {parts} experts"
        )
    if dispatch == "ragged" and parts > 1:
        return _ragged(product, mesh, headroom, *args)
    ring = axes_of(partition_spec(mesh, ("experts",), gate_up.shape), 0) if sizes and dispatch == "ring" else ()
    if ring:
        return _ring(product, mesh, ring, *args)
    rows, whole = ("tokens", None), (None, None, None)
    return sharded(product, (rows, rows, rows, whole, whole), rows)(*args)


def _ring(
    product: ExpertProduct,
    mesh: jax.sharding.AbstractMesh,
    ring: tuple[str, ...],
    x: Array,
    experts: Array,
    weights: Array,
    *matrices: Array,
) -> Array:
    rows = partition_spec(mesh, ("batch", None), x.shape)
    travels = tuple(axis for axis in ring if axis in axes_of(rows, 0))
    stays = tuple(axis for axis in ring if axis not in travels)

    def on_device(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array) -> Array:
        here = gate_up.shape[0]
        if travels:
            x, experts, weights = (jax.lax.all_gather(a, travels, tiled=True) for a in (x, experts, weights))
        local = experts - jax.lax.axis_index(ring) * here
        y = product(x, jnp.where((local >= 0) & (local < here), local, here), weights, gate_up, down)
        y = jax.lax.psum(y, stays) if stays else y
        return jax.lax.psum_scatter(y, travels, tiled=True) if travels else y

    return _on_mesh(on_device, mesh, rows, ring)(x, experts, weights, *matrices)


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
    return _on_mesh(on_device, mesh, rows, (AXIS,))(x, experts, weights, gate_up, down)[:tokens]


def _on_mesh(
    on_device: Callable[..., Array], mesh: jax.sharding.AbstractMesh, rows: PartitionSpec, over: tuple[str, ...]
) -> Callable[..., Array]:
    spread_out = PartitionSpec(over)
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
