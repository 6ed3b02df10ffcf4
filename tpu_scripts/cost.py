"""What one run of a compiled module costs a chip: operations, bytes of memory, bytes over each mesh axis.

The module's text is walked from its entry. A loop's body counts as often as the loop runs, the dearer branch of a
conditional counts once, a fusion counts by what it computes inside and by the arrays it reads from and writes to HBM.
Arrays that the compiler placed in on-chip memory cost no HBM traffic. Kernels count by the estimate that they carry.
"""

from collections.abc import Callable
import dataclasses
import functools
import json
import math
import re

import numpy as np

from tpu_scripts.hlo import Computation, Instruction, Module, Shape

# Operations that move or name arrays without work of their own.
_FREE = frozenset(
    (
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "partition-id",
        "replica-id",
        "opt-barrier",
        "domain",
        "copy-done",
        "slice-done",
        "async-done",
        "all-gather-done",
        "all-reduce-done",
        "collective-permute-done",
        "send-done",
        "recv-done",
        "async-update",
    )
)
_COLLECTIVES = {
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


@dataclasses.dataclass
class Cost:
    """Sums over one run. `kernels` holds calls and operations by kernel name."""

    flops: float = 0.0
    hbm_bytes: float = 0.0
    compiler_cycles: float = 0.0
    collectives: list[Collective] = dataclasses.field(default_factory=list)
    kernels: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: "Cost", times: float = 1.0) -> None:
        self.flops += times * other.flops
        self.hbm_bytes += times * other.hbm_bytes
        self.compiler_cycles += times * other.compiler_cycles
        self.collectives += [dataclasses.replace(c, count=c.count * times) for c in other.collectives]
        for name, figures in other.kernels.items():
            mine = self.kernels.setdefault(name, dict.fromkeys(figures, 0.0))
            for key, value in figures.items():
                mine[key] += times * value
        self.notes += [note for note in other.notes if note not in self.notes]


# Operations and HBM bytes of a kernel that carries no estimate, from its instruction and its operands' shapes.
KernelRule = Callable[[Instruction, list[Shape]], tuple[float, float] | None]


class Walker:
    """Costs of a module's computations, each computed once."""

    def __init__(self, module: Module, kernel_rule: KernelRule | None = None):
        self._module = module
        self._kernel_rule = kernel_rule
        self._known: dict[str, Cost] = {}

    def total(self) -> Cost:
        """The cost of the entry computation."""
        return self._computation(self._module.entry)

    def _computation(self, name: str) -> Cost:
        if name not in self._known:
            cost = Cost()
            computation = self._module.computations[name]
            for instruction in computation.instructions:
                cost.add(self._instruction(instruction, computation))
            self._known[name] = cost
        return self._known[name]

    def _instruction(self, i: Instruction, within: Computation) -> Cost:
        if i.opcode in _FREE:
            return Cost()
        if i.opcode == "while":
            return self._loop(i, within)
        if i.opcode == "conditional":
            return self._conditional(i)
        if i.opcode == "call" or (i.opcode == "async-start" and i.called("calls")):
            return self._computation(i.called("to_apply") or i.called("calls") or "")
        cost = Cost(compiler_cycles=_cycles(i))
        operands = self._operands(i, within)
        if i.opcode in _COLLECTIVES:
            cost.collectives.append(_collective(i, operands))
            cost.hbm_bytes = sum(s.hbm_bytes for s in (*operands, *i.shapes))
        elif i.opcode == "custom-call":
            self._custom_call(i, operands, cost)
        elif i.opcode == "fusion":
            body = self._module.computations[i.called("calls") or ""]
            self._fusion(i, body, operands, cost)
        else:
            cost.flops = self._flops(i, within)
            cost.hbm_bytes = _plain_bytes(i, operands)
        return cost

    def _loop(self, i: Instruction, within: Computation) -> Cost:
        trips = self._module.trips(i, within)
        cost = Cost()
        if trips is None:
            trips = 1
            cost.notes.append(f"loop {i.name} ({_op_name(i)}) has no constant length: counted once")
        cost.add(self._computation(i.called("body") or ""), trips)
        return cost

    def _conditional(self, i: Instruction) -> Cost:
        names = re.findall(r"%([\w.$-]+)", (re.search(r"branch_computations=\{([^}]*)\}", i.attributes) or [""])[0])
        names = names or [n for n in (i.called("true_computation"), i.called("false_computation")) if n]
        return max((self._computation(name) for name in names), key=lambda c: (c.flops, c.hbm_bytes), default=Cost())

    def _operands(self, i: Instruction, within: Computation) -> list[Shape]:
        shapes: list[Shape] = []
        for name in i.operands:
            source = within.by_name.get(name)
            shapes += source.shapes if source is not None else ()
        return shapes

    def _custom_call(self, i: Instruction, operands: list[Shape], cost: Cost) -> None:
        if "tpu_custom_call" not in i.attributes:
            return  # bookkeeping of the compiler
        name = kernel_name(i)
        moved = sum(s.hbm_bytes for s in (*operands, *i.shapes))
        estimate = _estimate(i)
        source = "estimate"
        if estimate is None and self._kernel_rule is not None:
            estimate, source = self._kernel_rule(i, operands), "rule"
        if estimate is None:
            estimate, source = (0.0, moved), "none"
            cost.notes.append(f"kernel {name} carries no cost estimate: its operations are not counted")
        cost.flops, cost.hbm_bytes = estimate[0], max(estimate[1], moved) if source == "rule" else moved
        cost.kernels[name] = {"calls": 1.0, "flops": cost.flops, "hbm_bytes": cost.hbm_bytes}

    def _fusion(self, i: Instruction, body: Computation, operands: list[Shape], cost: Cost) -> None:
        cost.flops = self._fused_flops(body.name)
        exchanges = self._fused_exchanges(body)
        cost.collectives += exchanges
        if exchanges:
            cost.hbm_bytes = sum(s.hbm_bytes for s in (*operands, *i.shapes))
            return
        for number, shape in enumerate(operands):
            if shape.space == 0:
                cost.hbm_bytes += min(shape.bytes, self._read(body.name, number))
        written = self._written(body.name)
        for shape, size in zip(i.shapes, written, strict=False):
            if shape.space == 0:
                cost.hbm_bytes += min(shape.bytes, size)

    @functools.cache  # noqa: B019 - lives as long as the walk
    def _fused_flops(self, name: str) -> float:
        body = self._module.computations[name]
        total = 0.0
        for i in body.instructions:
            total += self._fused_flops(i.called("calls") or "") if i.opcode == "fusion" else self._flops(i, body)
        return total

    def _fused_exchanges(self, body: Computation) -> list[Collective]:
        found = []
        for i in body.instructions:
            if i.opcode == "fusion" and i.called("calls") in self._module.computations:
                found += self._fused_exchanges(self._module.computations[i.called("calls") or ""])
            if i.opcode in _COLLECTIVES:
                exchange = _collective(i, self._operands(i, body))
                sliced = any(u.opcode == "dynamic-slice" for u in body.users(i.name))
                if exchange.kind == "all-reduce" and sliced:
                    exchange = dataclasses.replace(exchange, kind="reduce-scatter")
                found.append(exchange)
        return found

    @functools.cache  # noqa: B019
    def _read(self, name: str, number: int) -> float:
        """Bytes of a fusion's operand that its body looks at: slices and gathered rows alone where it takes those."""
        body = self._module.computations[name]
        parameter = body.parameters.get(number)
        if parameter is None:
            return math.inf
        return self._read_by_users(body, parameter)

    def _read_by_users(self, body: Computation, source: Instruction) -> float:
        total = 0.0
        for user in body.users(source.name):
            if user.opcode in ("dynamic-slice", "slice", "gather") and user.operands[0] == source.name:
                total += user.shape.bytes
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == source.name:
                continue  # written in place
            elif user.opcode == "bitcast":
                total += self._read_by_users(body, user)
            elif user.opcode == "fusion":
                for at, operand in enumerate(user.operands):
                    if operand == source.name:
                        total += self._read(user.called("calls") or "", at)
            else:
                return source.shape.bytes
        return total

    @functools.cache  # noqa: B019
    def _written(self, name: str) -> tuple[float, ...]:
        """Bytes that a fusion's body writes of each of its results: an update alone where that is in place."""
        body = self._module.computations[name]
        roots = [body.root]
        if body.root.opcode == "tuple":
            roots = [body.by_name[o] for o in body.root.operands if o in body.by_name]
        sizes = []
        for root in roots:
            value = root
            while value.opcode in ("bitcast", "copy", "convert") and value.operands[0] in body.by_name:
                value = body.by_name[value.operands[0]]
            if value.opcode == "dynamic-update-slice":
                sizes.append(body.by_name[value.operands[1]].shape.bytes)
            elif value.opcode == "fusion":
                sizes.append(self._written(value.called("calls") or "")[0])
            else:
                sizes.append(math.inf)
        return tuple(sizes)

    def _flops(self, i: Instruction, within: Computation) -> float:
        if i.opcode == "dot":
            lhs = within.by_name[i.operands[0]].shape
            contracted = [lhs.dims[d] for d in _numbers(i, "lhs_contracting_dims")]
            return 2.0 * i.shape.elements * math.prod(contracted)
        if i.opcode == "convolution":
            return _convolution_flops(i, *(within.by_name[o].shape for o in i.operands[:2]))
        return 0.0


def kernel_name(i: Instruction) -> str:
    """A kernel's own name: the last part of its path in the program that says more than `pallas_call`."""
    parts = [part for part in _op_name(i).split("/") if part and part != "pallas_call"]
    own = re.sub(r"[.\d]+$", "", i.name)
    return own if own not in ("custom-call", "tpu_custom_call", "pallas_call") or not parts else parts[-1]


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


def _collective(i: Instruction, operands: list[Shape]) -> Collective:
    kind = _COLLECTIVES[i.opcode]
    given = sum(s.bytes for s in operands)
    groups = _groups(i.attributes)
    if kind == "all-gather":
        size = given * (len(groups[0]) if groups else 1)
    else:
        size = given
    return Collective(kind, groups, size, 1.0)


def _groups(attributes: str) -> tuple[tuple[int, ...], ...]:
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes)
    if iota:
        shape, source = _ints(iota.group(1)), _ints(iota.group(2))
        devices = np.arange(math.prod(source)).reshape(source)
        if iota.group(3):
            devices = devices.transpose(_ints(iota.group(3)))
        return tuple(tuple(int(d) for d in row) for row in devices.reshape(shape[0], -1))
    pairs = re.search(r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}", attributes)
    if pairs:
        groups = [tuple(_ints(g)) for g in re.findall(r"\{([\d,]+)\}", pairs.group(1))]
        return tuple(g for g in groups if len(set(g)) > 1) or tuple(groups)
    return ()


def _ints(text: str) -> list[int]:
    return [int(x) for x in text.split(",") if x]


def _plain_bytes(i: Instruction, operands: list[Shape]) -> float:
    """HBM bytes of an operation that stands outside a fusion."""
    result = sum(s.hbm_bytes for s in i.shapes)
    if i.opcode in ("dynamic-slice", "slice", "gather", "slice-start"):
        part = i.shapes[1] if i.opcode == "slice-start" else i.shape
        return (part.bytes if operands and operands[0].space == 0 else 0.0) + part.hbm_bytes
    if i.opcode == "copy-start":
        return i.shapes[0].hbm_bytes + i.shapes[1].hbm_bytes
    if i.opcode == "dynamic-update-slice":
        return operands[1].hbm_bytes + (operands[1].bytes if i.shape.space == 0 else 0.0)
    if i.opcode == "scatter":
        return operands[-1].hbm_bytes + (2.0 * operands[-1].bytes if i.shape.space == 0 else 0.0)
    if i.opcode in ("broadcast", "iota", "rng", "rng-bit-generator"):
        return result
    return result + sum(s.hbm_bytes for s in operands)


def _convolution_flops(i: Instruction, lhs: Shape, rhs: Shape) -> float:
    """Two operations for each pair of input and weight that meet inside the window: padding and holes do not count."""
    labels = re.search(r"dim_labels=([\w?]+)_([\w?]+)->([\w?]+)", i.attributes)
    if labels is None:
        return 0.0
    left, right, out = labels.groups()
    meeting = 1
    for digit in (c for c in out if c.isdigit()):
        meeting *= _meeting_pairs(
            lhs.dims[left.index(digit)],
            rhs.dims[right.index(digit)],
            i.shape.dims[out.index(digit)],
            *(_window(i, key, int(digit)) for key in ("stride", "pad", "lhs_dilate", "rhs_dilate", "rhs_reversal")),
        )
    batch_groups = int((re.search(r"batch_group_count=(\d+)", i.attributes) or [0, "1"])[1])  # type: ignore[arg-type]
    batch, features = i.shape.dims[out.index("b")], i.shape.dims[out.index("f")]
    return 2.0 * batch * features * rhs.dims[right.index("i")] * meeting / batch_groups


@functools.cache
def _meeting_pairs(
    size: int, kernel: int, out: int, stride: str, pad: str, lhs_dilate: str, rhs_dilate: str, reversal: str
) -> int:
    del reversal  # turning a window round changes no count
    low = int(pad.split("_")[0]) if pad else 0
    step, holes, spread = int(stride or 1), int(lhs_dilate or 1), int(rhs_dilate or 1)
    total = 0
    at = np.arange(out, dtype=np.int64) * step - low
    for k in range(kernel):
        position = at + k * spread
        total += int(np.sum((position >= 0) & (position <= (size - 1) * holes) & (position % holes == 0)))
    return total


def _window(i: Instruction, key: str, digit: int) -> str:
    window = re.search(r"window=\{([^}]*)\}", i.attributes)
    found = re.search(rf"\b{key}=(\S+)", window.group(1)) if window else None
    return found.group(1).split("x")[digit] if found else ""


def _numbers(i: Instruction, key: str) -> list[int]:
    found = re.search(rf"{key}=\{{([\d,]*)\}}", i.attributes)
    return _ints(found.group(1)) if found else []


def _op_name(i: Instruction) -> str:
    found = re.search(r'op_name="([^"]*)"', i.attributes)
    return found.group(1) if found else ""


def _cycles(i: Instruction) -> float:
    found = re.search(r'"estimated_cycles":"(\d+)"', i.attributes)
    return float(found.group(1)) if found else 0.0


def _estimate(i: Instruction) -> tuple[float, float] | None:
    """Operations and bytes that a kernel says of itself (`pl.CostEstimate`)."""
    found = re.search(r'"cost_estimate":(\{[^}]*\})', i.attributes)
    if not found:
        return None
    figures = json.loads(found.group(1))
    return float(figures.get("flops", 0)), float(figures.get("bytes_accessed", 0))
