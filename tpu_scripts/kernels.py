"""Costs of kernels that carry no estimate of their own: the attention kernel that ships with jax."""

import math
import re

from tpu_scripts.cost import kernel_name
from tpu_scripts.hlo import Instruction, Shape


def splash_attention_cost(i: Instruction, operands: list[Shape]) -> tuple[float, float] | None:
    """Operations and HBM bytes of causal splash attention, forward or fused backward; None for other kernels.

    Half of the scores, and the half of the diagonal blocks that is computed in vain. The forward kernel makes two
    products of scores' size, the backward kernel five. Keys and values are read again for every block of queries (in
    the backward kernel queries and output gradients for every block of keys).
    """
    name = kernel_name(i)
    if not name.startswith("splash_"):
        return None
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
