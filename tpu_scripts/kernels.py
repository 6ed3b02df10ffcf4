"""Costs of kernels whose own estimate is missing or short: attention and grouped products that ship with jax."""

import math
import re

from tpu_scripts.cost import kernel_name
from tpu_scripts.hlo import Instruction, Shape

Estimate = tuple[float, float] | None  # operations and HBM bytes


def kernel_cost(i: Instruction, operands: list[Shape], estimate: Estimate) -> Estimate:
    """What a kernel costs, given what it says of itself; None where nothing is known."""
    name = kernel_name(i)
    if name.startswith("splash_"):
        return splash_attention_cost(i, operands)
    if name in ("gmm", "tgmm") and estimate is not None:
        return estimate[0] * computed_rows(operands), estimate[1]
    return estimate


def computed_rows(operands: list[Shape]) -> float:
    """Rows that a grouped product computes, over its rows: a tile that several groups share is computed for each.

    The kernel's first arrays of integers are the borders of its E groups and the group of each of its V steps, where
    every group but the first begins inside a tile: V = tiles + E - 1.
    """
    borders, steps = (s.elements for s in [s for s in operands if s.dtype == "s32" and s.dims][:2])
    return steps / (steps - (borders - 1) + 1)


def splash_attention_cost(i: Instruction, operands: list[Shape]) -> Estimate:
    """Operations and HBM bytes of causal splash attention, forward or fused backward; None for arrays that it lacks.

    Half of the scores, and the half of the diagonal blocks that is computed in vain. The forward kernel makes two
    products of scores' size, the backward kernel five. Keys and values are read again for every block of queries (in
    the backward kernel queries and output gradients for every block of keys).
    """
    name = kernel_name(i)
    backward = "dkv" in name or "dq" in name
    arrays = [s for s in operands if s.dtype in ("bf16", "f32") and len(s.dims) >= 2]
    if len(arrays) < 3:
        return None
    q, k = arrays[0], arrays[1]
    steps, dim = q.dims[-2:]
    heads, slots = q.elements // (steps * dim), k.dims[-2]
    block = _block(i, "block_kv_dkv" if backward else "block_q", slots if backward else steps)
    blocks = math.ceil((slots if backward else steps) / block)
    visited = (blocks + 1) / (2 * blocks)
    flops = (5 if backward else 2) * 2.0 * heads * steps * slots * dim * visited
    again = 2.0 * heads * blocks * (steps if backward else slots) * dim * (q.bytes / q.elements) * visited
    once = sum(s.hbm_bytes for s in (*operands, *i.shapes))
    return flops, again + once


def _block(i: Instruction, key: str, default: int) -> int:
    found = re.search(rf"{key}\W+(\d+)", i.attributes)
    return int(found.group(1)) if found else default
