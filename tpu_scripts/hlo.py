"""Reads the text of a compiled HLO module: computations, instructions, shapes, and how often loops run."""

import dataclasses
import functools
import math
import re

# Bytes of one element; types of sub-byte elements are counted as whole bytes where XLA stores them so.
ELEMENT_BYTES = {
    "pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4,
    "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16, "f8e4m3fn": 1, "f8e5m2": 1, "token": 0, "opaque": 0,
}  # fmt: skip
_SHAPE = re.compile(r"(\w+)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.$-]+) = ")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.$-]+) \(.*\{$")


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array: element type, sizes, and the memory it lies in (0 is HBM, 1 the on-chip vector memory)."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0

    @property
    def elements(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> float:
        return self.elements * ELEMENT_BYTES.get(self.dtype, 4)

    @property
    def hbm_bytes(self) -> float:
        return self.bytes if self.space == 0 else 0.0


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: its name, what it makes (a tuple's arrays flattened), operation, operands' names, attributes' text."""

    name: str
    shapes: tuple[Shape, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    root: bool = False

    @property
    def shape(self) -> Shape:
        return self.shapes[0]

    def called(self, key: str) -> str | None:
        """The computation that attribute `key` names."""
        found = re.search(rf"\b{key}=%?([\w.$-]+)", self.attributes)
        return found.group(1) if found else None


class Computation:
    """Instructions in order, and by name."""

    def __init__(self, name: str):
        self.name = name
        self.instructions: list[Instruction] = []
        self.by_name: dict[str, Instruction] = {}

    def add(self, instruction: Instruction) -> None:
        self.instructions.append(instruction)
        self.by_name[instruction.name] = instruction

    @property
    def root(self) -> Instruction:
        return next((i for i in self.instructions if i.root), self.instructions[-1])

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """Parameters by their number."""
        return {int(i.operands[0]): i for i in self.instructions if i.opcode == "parameter"}

    def users(self, name: str) -> list[Instruction]:
        """Instructions that read `name`."""
        return self._users.get(name, [])

    @functools.cached_property
    def _users(self) -> dict[str, list[Instruction]]:
        users: dict[str, list[Instruction]] = {}
        for instruction in self.instructions:
            for operand in dict.fromkeys(instruction.operands):
                users.setdefault(operand, []).append(instruction)
        return users


class Module:
    """A module's computations by name, and the name of the one that runs."""

    def __init__(self, text: str):
        self.computations: dict[str, Computation] = {}
        self.entry = ""
        current: Computation | None = None
        for line in _logical_lines(text):
            header = _COMPUTATION.match(line)
            if header and " = " not in line.split(" (", 1)[0]:
                current = self.computations[header.group(2)] = Computation(header.group(2))
                if header.group(1):
                    self.entry = header.group(2)
            elif current is not None and (instruction := _parse(line)):
                current.add(instruction)
        if not self.entry:
            raise ValueError("HLO text without an ENTRY computation")

    def trips(self, loop: Instruction, within: Computation) -> int | None:
        """How often a `while` runs: from its counter's start, step and limit; None where the limit is not constant."""
        condition = self.computations[loop.called("condition") or ""]
        body = self.computations[loop.called("body") or ""]
        compare = _through_copies(condition, condition.root)
        if compare.opcode == "fusion":  # the comparison in a computation of its own
            inner = self.computations[compare.called("calls") or ""]
            compared = _through_copies(inner, inner.root)
            operands = [_argument(inner, operand, compare, condition) for operand in compared.operands]
            compare = compared
        else:
            operands = [condition.by_name.get(operand) for operand in compare.operands]
        if compare.opcode != "compare" or len(operands) != 2:
            return None
        direction = re.search(r"direction=(\w+)", compare.attributes)
        sides = [None if o is None else _through_copies(condition, o) for o in operands]
        for counter, limit, accepted in ((sides[0], sides[1], ("LT", "LE", "NE")), (sides[1], sides[0], ("GT", "GE"))):
            if counter is None or limit is None or counter.opcode != "get-tuple-element":
                continue
            index = _index(counter)
            end = self._constant(limit, condition, loop, within)
            start = self._initial(index, loop, within)
            if end is None or not direction or direction.group(1) not in accepted:
                continue
            step = _step(self, body, index)
            last = end + (direction.group(1) in ("LE", "GE"))
            return max(0, math.ceil((last - (start or 0)) / step)) if step else None
        return None

    def _constant(self, value: Instruction, at: Computation, loop: Instruction, within: Computation) -> int | None:
        if value.opcode == "constant":
            return _integer(value)
        if value.opcode == "get-tuple-element":  # a limit that the loop carries unchanged
            return self._initial(_index(value), loop, within)
        return None

    def _initial(self, index: int, loop: Instruction, within: Computation) -> int | None:
        start = within.by_name.get(loop.operands[0])
        if start is None or start.opcode != "tuple":
            return None
        value = within.by_name.get(start.operands[index])
        value = None if value is None else _through_copies(within, value)
        return _integer(value) if value is not None and value.opcode == "constant" else None


def _index(element: Instruction) -> int:
    """Which element of its operand a `get-tuple-element` is."""
    found = re.search(r"index=(\d+)", element.attributes)
    if found is None:
        raise ValueError(f"HLO text: {element.name} takes an element without saying which")
    return int(found.group(1))


def _step(module: Module, body: Computation, index: int) -> int:
    """By how much an iteration moves the counter; 1 where the text does not say."""
    root = _through_copies(body, body.root)
    if root.opcode != "tuple":
        return 1
    value = body.by_name.get(root.operands[index])
    value = None if value is None else _through_copies(body, value)
    if value is not None and value.opcode == "add":
        for operand in value.operands:
            found = body.by_name.get(operand)
            if found is not None and found.opcode == "constant":
                return abs(_integer(found) or 1)
    return 1


def _argument(inner: Computation, name: str, fusion: Instruction, outer: Computation) -> Instruction | None:
    """What stands for an operand inside a fusion: a constant there, or the fusion's own operand."""
    value = inner.by_name.get(name)
    value = None if value is None else _through_copies(inner, value)
    if value is not None and value.opcode == "parameter":
        return outer.by_name.get(fusion.operands[int(value.operands[0])])
    return value


def _through_copies(computation: Computation, instruction: Instruction) -> Instruction:
    while instruction.opcode in ("copy", "bitcast", "convert", "copy-done", "copy-start") and instruction.operands:
        source = computation.by_name.get(instruction.operands[0])
        if source is None:
            break
        instruction = source
    return instruction


def _integer(constant: Instruction) -> int | None:
    text = constant.operands[0] if constant.operands else ""
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _logical_lines(text: str) -> list[str]:
    """Lines, those that go on (attributes with line breaks inside) joined to the one they belong to."""
    lines: list[str] = []
    for line in text.splitlines():
        closed = not line.strip() or line.rstrip() == "}"
        whole = closed or line.startswith(("ENTRY ", "%", "HloModule")) or _INSTRUCTION.match(line)
        if whole or not lines:
            lines.append(line)
        else:
            lines[-1] += " " + line
    return lines


def _parse(line: str) -> Instruction | None:
    head = _INSTRUCTION.match(line)
    if not head:
        return None
    rest = line[head.end() :]
    shape_text, rest = _balanced(rest) if rest.startswith("(") else rest.split(" ", 1)
    opcode, _, rest = rest.strip().partition("(")
    inside, attributes = _balanced("(" + rest)
    if opcode in ("parameter", "constant"):
        operands: tuple[str, ...] = (inside[1:-1],)
    else:
        operands = tuple(re.findall(r"%([\w.$-]+)", inside))
    return Instruction(head.group(2), shapes_of(shape_text), opcode.strip(), operands, attributes, bool(head.group(1)))


def shapes_of(text: str) -> tuple[Shape, ...]:
    """The arrays that a shape's text names, a tuple's in order."""
    found = []
    for dtype, dims, layout in _SHAPE.findall(text):
        if dtype in ELEMENT_BYTES:
            space = _SPACE.search(layout or "")
            sizes = tuple(int(d.lstrip("<=")) for d in dims.split(",") if d)
            found.append(Shape(dtype, sizes, int(space.group(1)) if space else 0))
    return tuple(found)


def _balanced(text: str) -> tuple[str, str]:
    """A leading parenthesised part, and what follows it."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[: at + 1], text[at + 1 :]
    return text, ""
