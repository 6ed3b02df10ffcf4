"""Kernels over a mesh: each device runs the kernel on its own batch rows and heads."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec

from qomni_jax.parallel.rules import mesh_axes

Names = tuple[str | None, ...]


def sharded(fn: Callable[..., Any], in_names: tuple[Names, ...], out_names: Any) -> Callable[..., Any]:
    """`fn` under `shard_map` over the mesh of `jax.set_mesh`, or `fn` itself where there is no mesh.

    `in_names` and `out_names` name the arrays' axes; an argument may be None. Axes are spread by `parallel.rules`; a
    mesh axis that does not divide every array's axis of a name is left out for that name, and the work is repeated
    there. Needed where a compiler cannot split an operation by itself, as with Pallas kernels.
    """

    def run(*args: Any) -> Any:
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty or mesh.manual_axes or mesh.size == 1:
            return fn(*args)
        sizes: dict[str, set[int]] = {}
        for names, arg in zip(in_names, args, strict=True):
            if arg is not None:
                for name, size in zip(names, arg.shape, strict=True):
                    if name is not None:
                        sizes.setdefault(name, set()).add(size)
        table: dict[str | None, Any] = {None: None}
        for name, present in sizes.items():
            axes, parts = [], 1
            for axis in mesh_axes(name):
                if mesh.shape.get(axis, 1) > 1 and all(size % (parts * mesh.shape[axis]) == 0 for size in present):
                    axes.append(axis)
                    parts *= mesh.shape[axis]
            table[name] = tuple(axes) or None
        given = [i for i, arg in enumerate(args) if arg is not None]

        def on_device(*local: Any) -> Any:
            whole: list[Any] = [None] * len(args)
            for i, arg in zip(given, local, strict=True):
                whole[i] = arg
            return fn(*whole)

        def spec(names: Names) -> PartitionSpec:
            return PartitionSpec(*(table[name] for name in names))

        out_specs = jax.tree.map(spec, out_names, is_leaf=_is_names)
        call = jax.shard_map(
            on_device, mesh=mesh, in_specs=tuple(spec(in_names[i]) for i in given), out_specs=out_specs, check_vma=False
        )
        return call(*(args[i] for i in given))

    return run


def _is_names(x: Any) -> bool:
    return isinstance(x, tuple) and all(name is None or isinstance(name, str) for name in x)
