"""The one table that says over which mesh axes an array's named axes are spread, and what follows from it."""

from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Logical axis -> mesh axes. Axes of activations first, then those of parameters.
RULES: tuple[tuple[str, tuple[str, ...] | str | None], ...] = (
    ("batch", ("data", "fsdp", "expert")),
    ("sequence", "context"),
    # Between mixers nothing mixes time: the residual stream, and with it the tokens that go to the experts, are spread
    # over the devices that share a row as well.
    ("residual", ("context", "tensor")),
    ("tokens", ("data", "fsdp", "expert", "context", "tensor")),
    ("activation", None),
    ("vocab", "tensor"),
    ("embed", "fsdp"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("linear_heads", "tensor"),
    ("mlp", "tensor"),
    # Whole experts as far as they go: a device then needs no other's weights for its share (`parallel.experts`, ring).
    ("experts", ("expert", "tensor")),
    ("expert_mlp", "tensor"),
    ("norm", None),
    ("conv", None),
    ("periods", None),
    ("layers", None),
)


def mesh_axes(logical: str | None) -> tuple[str, ...]:
    """The mesh axes of one logical axis. Raises ValueError for a name that the table lacks."""
    if logical is None:
        return ()
    table = dict(RULES)
    if logical not in table:
        raise ValueError(f"logical axis {logical!r}: accepted is one of {', '.join(table)}")
    axes = table[logical]
    return () if axes is None else (axes,) if isinstance(axes, str) else axes


def parameter_shardings(mesh: Mesh, boxed: Any) -> Any:
    """The tree of `NamedSharding`s for variables as `init` or its `eval_shape` returns them (boxed with axis names).

    An axis whose size the mesh axes do not divide is not spread.
    """
    specs = nn.get_partition_spec(boxed)
    shapes = nn.meta.unbox(boxed)
    return jax.tree.map(
        lambda spec, leaf: NamedSharding(mesh, partition_spec(mesh, tuple(spec), leaf.shape)),
        specs,
        shapes,
        is_leaf=lambda x: isinstance(x, PartitionSpec),
    )


def partition_spec(mesh: Any, names: tuple[str | None, ...], shape: tuple[int, ...]) -> PartitionSpec:
    """Mesh axes for an array with these axis names: those of the mesh that divide the size and are still free."""
    taken: set[str] = set()
    entries: list[tuple[str, ...] | str | None] = []
    for name, size in zip(names, shape, strict=False):
        chosen: list[str] = []
        for axis in mesh_axes(name):
            parts = mesh.shape.get(axis, 1)
            if parts > 1 and axis not in taken and size % parts == 0:
                chosen.append(axis)
                size //= parts
        taken.update(chosen)
        entries.append(None if not chosen else chosen[0] if len(chosen) == 1 else tuple(chosen))
    return PartitionSpec(*entries)


def axes_of(spec: PartitionSpec, index: int) -> tuple[str, ...]:
    """The mesh axes over which axis `index` of an array with this placement is spread."""
    entry = spec[index] if index < len(spec) else None
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """`x` with its axes spread by the table over the mesh of `jax.set_mesh`; `x` itself where there is none."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.manual_axes:
        return x
    return jax.lax.with_sharding_constraint(x, partition_spec(mesh, names, x.shape))
