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

from tpu_scripts.collectives import COLLECTIVES, Collective, collective, goes_on
from tpu_scripts.hlo import Computation, Instruction, Module, Shape
from tpu_scripts.operations import flops, plain_bytes

# Operations that move or name arrays without work of their own.
_FREE = frozenset(
    (
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier", "domain"),
        *("after-all", "partition-id", "replica-id", "async-update", "async-done", "copy-done", "slice-done"),
        *("all-gather-done", "all-reduce-done", "collective-permute-done", "send-done", "recv-done"),
    )
)


@dataclasses.dataclass
class Cost:
    """Sums over one run.

    `busy_flops` counts for each operation the larger of its own operations and of those that the matrix units could do
    while its bytes pass: over the peak it is the time of operations that run one after another. `kernels` holds calls,
    operations and bytes by kernel name, `places` operations, bytes and `busy_flops` by place in the model.
    """

    flops: float = 0.0
    hbm_bytes: float = 0.0
    busy_flops: float = 0.0
    compiler_cycles: float = 0.0
    collectives: list[Collective] = dataclasses.field(default_factory=list)
    kernels: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    places: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: "Cost", times: float = 1.0) -> None:
        self.flops += times * other.flops
        self.hbm_bytes += times * other.hbm_bytes
        self.busy_flops += times * other.busy_flops
        self.compiler_cycles += times * other.compiler_cycles
        self.collectives += [dataclasses.replace(c, count=c.count * times) for c in other.collectives]
        for sums, more in ((self.kernels, other.kernels), (self.places, other.places)):
            for name, figures in more.items():
                mine = sums.setdefault(name, dict.fromkeys(figures, 0.0))
                for key, value in figures.items():
                    mine[key] += times * value
        self.notes += [note for note in other.notes if note not in self.notes]


# Operations and HBM bytes of a kernel, from its instruction, its operands' shapes and its own estimate, if it has one.
KernelRule = Callable[[Instruction, list[Shape], tuple[float, float] | None], tuple[float, float] | None]

LoopRule = Callable[[str], int | None]


class Walker:
    """Costs of a module's computations, each computed once.

    `flops_per_byte` is what a chip's matrix units do while a byte passes to or from its memory. `loop_rule` tells, from
    the name of the operation, how often a loop runs whose length the program does not tell, or None.
    """

    def __init__(
        self,
        module: Module,
        kernel_rule: KernelRule | None = None,
        flops_per_byte: float = 0.0,
        loop_rule: LoopRule | None = None,
    ):
        self._module = module
        self._flops_per_byte = flops_per_byte
        self._kernel_rule = kernel_rule
        self._loop_rule = loop_rule
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
        if i.opcode in COLLECTIVES:
            cost.collectives.append(collective(i, operands))
            cost.hbm_bytes = sum(s.hbm_bytes for s in (*operands, *i.shapes))
        elif i.opcode == "custom-call":
            self._custom_call(i, operands, cost)
        elif i.opcode == "fusion":
            body = self._module.computations[i.called("calls") or ""]
            self._fusion(i, body, operands, cost)
        else:
            cost.flops = flops(i, within)
            cost.hbm_bytes = plain_bytes(i, operands)
        cost.busy_flops = max(cost.flops, cost.hbm_bytes * self._flops_per_byte)
        figures = {"flops": cost.flops, "hbm_bytes": cost.hbm_bytes, "busy_flops": cost.busy_flops}
        cost.places[place(_op_name(i))] = figures
        return cost

    def _loop(self, i: Instruction, within: Computation) -> Cost:
        trips = self._module.trips(i, within)
        cost = Cost()
        if trips is None and self._loop_rule is not None:
            trips = self._loop_rule(_op_name(i))
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
        if estimate is not None:
            estimate = estimate[0], max(estimate[1], moved)
        if self._kernel_rule is not None:
            estimate = self._kernel_rule(i, operands, estimate)
        if estimate is None:
            estimate = (0.0, moved)
            cost.notes.append(f"kernel {name} carries no cost estimate: its operations are not counted")
        cost.flops, cost.hbm_bytes = estimate
        cost.kernels[name] = {"calls": 1.0, "flops": cost.flops, "hbm_bytes": cost.hbm_bytes}

    def _fusion(self, i: Instruction, body: Computation, operands: list[Shape], cost: Cost) -> None:
        for kernel in self._fused_kernels(body):
            cost.add(kernel)
        least = cost.hbm_bytes  # a kernel may read its arrays again and again
        cost.flops += self._fused_flops(body.name)
        cost.hbm_bytes = 0.0
        exchanges = self._fused_exchanges(body)
        cost.collectives += exchanges
        if exchanges:
            cost.hbm_bytes = max(least, sum(s.hbm_bytes for s in (*operands, *i.shapes)))
            return
        for number, shape in enumerate(operands):
            if shape.space == 0:
                cost.hbm_bytes += min(shape.bytes, self._read(body.name, number))
        written = self._written(body.name)
        for shape, size in zip(i.shapes, written, strict=False):
            if shape.space == 0:
                cost.hbm_bytes += min(shape.bytes, size)
        cost.hbm_bytes = max(cost.hbm_bytes, least)

    def _fused_kernels(self, body: Computation) -> list[Cost]:
        """Kernels inside a fusion, which slices what they read and joins what they write."""
        found = []
        for i in body.instructions:
            if i.opcode == "fusion":
                found += self._fused_kernels(self._module.computations[i.called("calls") or ""])
            elif i.opcode == "custom-call":
                found.append(Cost())
                self._custom_call(i, self._operands(i, body), found[-1])
        return found

    @functools.cache  # noqa: B019 - lives as long as the walk
    def _fused_flops(self, name: str) -> float:
        body = self._module.computations[name]
        total = 0.0
        for i in body.instructions:
            total += self._fused_flops(i.called("calls") or "") if i.opcode == "fusion" else flops(i, body)
        return total

    def _fused_exchanges(self, body: Computation) -> list[Collective]:
        """Exchanges inside a fusion; one that goes on over several fusions counts where it starts."""
        found = []
        starts = any("AsyncCollectiveStart" in i.attributes for i in body.instructions)
        for i in body.instructions:
            if i.opcode == "fusion" and i.called("calls") in self._module.computations:
                found += self._fused_exchanges(self._module.computations[i.called("calls") or ""])
            if i.opcode in COLLECTIVES and (starts or not goes_on(i)):
                exchange = collective(i, self._operands(i, body))
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
            elif goes_on(user) or user.opcode == "tuple" or "AsyncCollectiveDone" in user.attributes:
                continue  # passed on
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
            if value.opcode == "parameter" or goes_on(value) or "AsyncCollectiveDone" in value.attributes:
                sizes.append(0.0)
            elif value.opcode == "dynamic-update-slice":
                sizes.append(body.by_name[value.operands[1]].shape.bytes)
            elif value.opcode == "fusion":
                sizes.append(self._written(value.called("calls") or "")[0])
            else:
                sizes.append(math.inf)
        return tuple(sizes)


def kernel_name(i: Instruction) -> str:
    """A kernel's own name: the last part of its path in the program that says more than `pallas_call`."""
    parts = [part for part in _op_name(i).split("/") if part and part != "pallas_call"]
    own = re.sub(r"[.\d]+$", "", i.name)
    return own if own not in ("custom-call", "tpu_custom_call", "pallas_call") or not parts else parts[-1]


def place(op_name: str) -> str:
    """Where in the model an operation stands, from its path in the traced program: the pass, then the modules.

    `forward`, `again` (computed a second time for the backward pass), `backward`, or `rest` outside of the loss.
    """
    phase = "rest"
    for mark, name in (("jvp(", "forward"), ("transpose(jvp(", "backward"), ("/rematted_computation", "again")):
        phase = name if mark in op_name else phase
    modules = [
        re.sub(r"^layer_\d+$", "layer", part)
        for part in op_name.split("/")[:-1]
        if _MODULE.fullmatch(part) and part not in _WRAPPERS
    ]
    return " ".join([phase, *list(dict.fromkeys(modules))[:3]])


_MODULE = re.compile(r"[A-Za-z]\w*")
_WRAPPERS = frozenset(
    (
        *("while", "body", "cond", "closed_call", "checkpoint", "rematted_computation", "shard_map"),
        *("decoder", "periods", "static_sparsity_splash"),
    )
)


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
