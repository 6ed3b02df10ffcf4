"""Costs of kernels whose own estimate is missing or short: attention and grouped products that ship with jax."""

import math
import re

from qomni_jax.ops.moe.grouped_product import forward_tiles
from tpu_scripts.cost import kernel_name
from tpu_scripts.hlo import Instruction, Shape

Estimate = tuple[float, float] | None  # operations and HBM bytes


def kernel_cost(
    i: Instruction, operands: list[Shape], estimate: Estimate, *, causal: bool = True, chosen: float = 1.0
) -> Estimate:
    """What a kernel costs, given what it says of itself; None where nothing is known.

    `causal`: whether attention is; its kernel does not say. `chosen`: the share of the experts that any token visits;
    the weights of the others are not read.
    """
    name = kernel_name(i)
    if name.startswith("splash_"):
        return splash_attention_cost(i, operands, causal=causal)
    if name in ("gmm", "tgmm") and estimate is not None:
        return grouped_product_cost(name, operands, estimate, chosen=chosen)
    return estimate


def grouped_product_cost(
    name: str, operands: list[Shape], estimate: tuple[float, float], *, chosen: float = 1.0
) -> tuple[float, float]:
    """A grouped product's estimate, with rows that are computed twice and without weights that are not read, or twice.

    The kernel's first arrays of integers are the borders of its E groups and the group of each of its V steps, where
    every group but the first begins inside a tile: V = tiles + E - 1. A tile that several groups share is computed for
    each. The estimate has `gmm` read weights in every step; a block as deep as the product is read once a group.
    """
    borders, steps = (s.elements for s in [s for s in operands if s.dtype == "s32" and s.dims][:2])
    groups = borders - 1
    flops, moved = estimate[0] * steps / (steps - groups + 1), estimate[1]
    rows, weights = [s for s in operands if s.dtype != "s32"][:2]
    if name == "gmm" and forward_tiles(rows.dims[0], rows.dims[1], 1)[1] == rows.dims[1]:
        moved -= weights.bytes * (steps / groups - chosen)
    return flops, moved


def splash_attention_cost(i: Instruction, operands: list[Shape], *, causal: bool = True) -> Estimate:
    """Operations and HBM bytes of splash attention, forward or fused backward; None for arrays that it lacks.

    Causal: half of the scores, and the half of the diagonal blocks that is computed in vain. The forward kernel makes
    two products of scores' size, the backward kernel five. Keys and values are read again for every block of queries
    (in the backward kernel queries and output gradients for every block of keys).
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
    visited = (blocks + 1) / (2 * blocks) if causal else 1.0
    flops = (5 if backward else 2) * 2.0 * heads * steps * slots * dim * visited
    again = 2.0 * heads * blocks * (steps if backward else slots) * dim * (q.bytes / q.elements) * visited
    once = sum(s.hbm_bytes for s in (*operands, *i.shapes))
    return flops, again + once


def _block(i: Instruction, key: str, default: int) -> int:
    found = re.search(rf"{key}\W+(\d+)", i.attributes)
    return int(found.group(1)) if found else default
