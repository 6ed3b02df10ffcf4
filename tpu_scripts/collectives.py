"""Exchanges between chips in a compiled module: their kind, who takes part, and how much a chip gives."""

import dataclasses
import math
import re

import numpy as np

from tpu_scripts.hlo import Instruction, Shape

COLLECTIVES = {
    "all-gather": "all-gather",
    "all-gather-start": "all-gather",
    "all-reduce": "all-reduce",
    "all-reduce-start": "all-reduce",
    "reduce-scatter": "reduce-scatter",
    "all-to-all": "all-to-all",
    "ragged-all-to-all": "all-to-all",
    "collective-permute": "collective-permute",
    "collective-permute-start": "collective-permute",
    "collective-broadcast": "all-gather",
}


@dataclasses.dataclass(frozen=True)
class Collective:
    """One kind of exchange over one group of devices: `count` of them a step, each with `bytes` on a chip.

    `bytes` is the whole of an all-gather's result or of a reduction's input, and what a chip sends otherwise.
    """

    kind: str
    groups: tuple[tuple[int, ...], ...]
    bytes: float
    count: float


def axes_of(groups: tuple[tuple[int, ...], ...], mesh_shape: dict[str, int]) -> tuple[str, ...]:
    """The mesh axes along which the members of a group differ; devices count along the mesh, last axis fastest."""
    sizes = tuple(mesh_shape.values())
    varying: set[str] = set()
    for group in groups[:1]:
        coordinates = np.stack(np.unravel_index(np.asarray(group), sizes), axis=1)
        for axis, column in zip(mesh_shape, coordinates.T, strict=True):
            if np.any(column != column[0]):
                varying.add(axis)
    return tuple(axis for axis in mesh_shape if axis in varying)


def goes_on(i: Instruction) -> bool:
    """Whether an exchange is one that stands in several fusions, from its start to its end."""
    return i.opcode in COLLECTIVES and "chain_id=" in i.attributes


def collective(i: Instruction, operands: list[Shape]) -> Collective:
    """The exchange that an instruction of `COLLECTIVES` makes, once."""
    kind = COLLECTIVES[i.opcode]
    given = sum(s.bytes for s in operands)
    groups = _groups(i.attributes)
    if kind == "all-gather":
        size = given * (len(groups[0]) if groups else 1)
    else:
        size = given
    return Collective(kind, groups, size, 1.0)


def _groups(attributes: str) -> tuple[tuple[int, ...], ...]:
    """The groups that exchange, or a permutation's pairs; empty where all devices of the program are one group."""
    if "replica_groups=mesh[" in attributes:
        return _groups_of_axes(attributes)
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes)
    if iota:
        shape, source = ints(iota.group(1)), ints(iota.group(2))
        return _rows(_in_order(source, iota.group(3)).reshape(shape[0], -1))
    pairs = re.search(r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}", attributes)
    if pairs is None:
        raise ValueError(f"devices of an exchange are not understood: {attributes[:200]}")
    groups = [tuple(ints(g)) for g in re.findall(r"\{([\d,]+)\}", pairs.group(1))]
    return tuple(g for g in groups if len(set(g)) > 1) or tuple(groups)


def _groups_of_axes(attributes: str) -> tuple[tuple[int, ...], ...]:
    """`mesh['a'=2,'b'=4] {'a','b':(2)2}`: groups along axes, or along the part of an axis that follows 2 others.

    `device_ids=([4,2]T(1,0))` between the two says in which order devices stand in the mesh.
    """
    found = re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, ?device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}", attributes
    )
    sizes = re.findall(r"'([^']+)'=(\d+)", found.group(1)) if found else []
    if found is None or len(sizes) != found.group(1).count("="):
        raise ValueError(f"devices of an exchange are not understood: {attributes[:200]}")
    wanted = {name: (int(before or 1), int(size or 0)) for name, before, size in _AXIS.findall(found.group(4))}
    dims: list[int] = []
    along: list[int] = []
    for name, text in sizes:
        before, size = wanted.get(name, (1, 1))
        size = size or int(text)
        along += [len(dims) + 1] if name in wanted else []
        dims += [before, size, int(text) // (before * size)]
    order = _in_order(ints(found.group(2)), found.group(3)) if found.group(2) else np.arange(math.prod(dims))
    across = [axis for axis in range(len(dims)) if axis not in along]
    members = math.prod(dims[axis] for axis in along)
    return _rows(order.reshape(dims).transpose([*across, *along]).reshape(-1, members))


_AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")


def _in_order(dims: list[int], permutation: str | None) -> np.ndarray:
    devices = np.arange(math.prod(dims)).reshape(dims)
    return devices.transpose(ints(permutation)) if permutation else devices


def _rows(groups: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(device) for device in row) for row in groups)


def ints(text: str) -> list[int]:
    """`1,2,3` as numbers."""
    return [int(x) for x in text.split(",") if x]
