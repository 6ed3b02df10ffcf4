"""What one operation of a compiled module does outside a fusion: multiplications and HBM bytes."""

import functools
import math
import re

import numpy as np

from tpu_scripts.collectives import ints
from tpu_scripts.hlo import Computation, Instruction, Shape


def flops(i: Instruction, within: Computation) -> float:
    """Two for each product that is summed up in a `dot` or `convolution`; nothing else counts."""
    if i.opcode == "dot":
        lhs = within.by_name[i.operands[0]].shape
        contracted = [lhs.dims[d] for d in _numbers(i, "lhs_contracting_dims")]
        return 2.0 * i.shape.elements * math.prod(contracted)
    if i.opcode == "convolution":
        return _convolution_flops(i, *(within.by_name[o].shape for o in i.operands[:2]))
    return 0.0


def plain_bytes(i: Instruction, operands: list[Shape]) -> float:
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
    grouped = re.search(r"batch_group_count=(\d+)", i.attributes)
    batch_groups = int(grouped.group(1)) if grouped else 1
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
    return ints(found.group(1)) if found else []
