"""Costs of the kernels that ship with jax, worked out by hand."""

import pytest

from tpu_scripts.hlo import Instruction, Shape
from tpu_scripts.kernels import kernel_cost


def kernel(name: str) -> Instruction:
    return Instruction(
        f"{name}.1", (Shape("bf16", (512, 256)),), "custom-call", (), '"block_q": 512, "block_kv_dkv": 512'
    )


def test_a_grouped_product_computes_shared_tiles_twice_and_reads_a_groups_weights_once():
    """512 rows in 4 tiles of 3 groups: 2 tiles more for the groups that begin inside one."""
    steps = 4 + 3 - 1
    bound, borders, order = Shape("s32", ()), Shape("s32", (4,)), Shape("s32", (steps,))
    weights = Shape("bf16", (3, 128, 256))
    operands = [bound, borders, order, order, Shape("bf16", (512, 128)), weights]
    once = 2 * (512 * 128 + 512 * 256)
    said = (2.0 * 512 * 128 * 256, once + steps * 2.0 * 128 * 256)
    assert kernel_cost(kernel("gmm"), operands, said) == (pytest.approx(said[0] * 6 / 4), once + weights.bytes)
    third = kernel_cost(kernel("gmm"), operands, said, chosen=1 / 3)
    assert third == (pytest.approx(said[0] * 6 / 4), pytest.approx(once + weights.bytes / 3))
    assert kernel_cost(kernel("tgmm"), operands, said) == (pytest.approx(said[0] * 6 / 4), said[1])


def test_causal_attention_computes_half_of_the_scores_and_the_diagonal_blocks_whole():
    """2 heads, 1,024 tokens, 128 channels, blocks of 512: 3 of 4 blocks, two products forward, five backward."""
    q, k = Shape("bf16", (2, 1024, 128)), Shape("bf16", (1024, 128))
    one = 2.0 * 2 * 1024 * 1024 * 128 * 3 / 4
    flops, moved = kernel_cost(kernel("splash_mqa_fwd"), [q, k, k], None) or (0, 0)
    assert flops == 2 * one
    assert moved > q.bytes + 2 * k.bytes
    assert (kernel_cost(kernel("splash_mqa_dkv"), [q, k, k], None) or (0, 0))[0] == 5 * one


def test_any_other_kernel_is_taken_at_its_word():
    assert kernel_cost(kernel("gated_delta_rule_forward"), [], (3.0, 4.0)) == (3.0, 4.0)
    assert kernel_cost(kernel("gated_delta_rule_forward"), [], None) is None
