"""What a compiled module costs, against figures worked out by hand on modules small enough for that."""

from types import SimpleNamespace

import pytest

from tpu_scripts.bounds import bounds, model_flops, traffic
from tpu_scripts.chips import Slice
from tpu_scripts.collectives import Collective, axes_of
from tpu_scripts.cost import Walker, place
from tpu_scripts.hlo import Module

# A loop of 6 steps over [8,128] x [128,256] products in a fusion, each followed by an all-reduce over the mesh axis b.
LOOP = """HloModule step, is_scheduled=true

%sum (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%x, %y)
}

%fused (p0: bf16[8,128], p1: bf16[128,256]) -> f32[8,256] {
  %p0 = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %p1 = bf16[128,256]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  ROOT %dot.1 = f32[8,256]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (carry: (s32[], bf16[8,128], bf16[128,256])) -> (s32[], bf16[8,128], bf16[128,256]) {
  %carry = (s32[], bf16[8,128]{1,0}, bf16[128,256]{1,0:S(1)}) parameter(0)
  %count = s32[] get-tuple-element(%carry), index=0
  %x.1 = bf16[8,128]{1,0} get-tuple-element(%carry), index=1
  %w.1 = bf16[128,256]{1,0:S(1)} get-tuple-element(%carry), index=2
  %one = s32[] constant(1)
  %next = s32[] add(%count, %one)
  %product = f32[8,256]{1,0} fusion(%x.1, %w.1), calls=%fused, metadata={op_name="jvp(M)/while/body/gdn_0/moe/dot"}
  %reduced = f32[8,256]{1,0} all-reduce(%product), channel_id=1, replica_groups=mesh['a'=2,'b'=2] {'b'}, to_apply=%sum
  ROOT %out = (s32[], bf16[8,128]{1,0}, bf16[128,256]{1,0:S(1)}) tuple(%next, %x.1, %w.1)
}

%less (carry.2: (s32[], bf16[8,128], bf16[128,256])) -> pred[] {
  %carry.2 = (s32[], bf16[8,128]{1,0}, bf16[128,256]{1,0:S(1)}) parameter(0)
  %count.2 = s32[] get-tuple-element(%carry.2), index=0
  %limit = s32[] constant(6)
  ROOT %smaller = pred[] compare(%count.2, %limit), direction=LT
}

ENTRY %main (x: bf16[8,128], w: bf16[128,256]) -> bf16[8,128] {
  %x.3 = bf16[8,128]{1,0} parameter(0)
  %w.3 = bf16[128,256]{1,0:S(1)} parameter(1)
  %zero = s32[] constant(0)
  %start = (s32[], bf16[8,128]{1,0}, bf16[128,256]{1,0:S(1)}) tuple(%zero, %x.3, %w.3)
  %loop = (s32[], bf16[8,128]{1,0}, bf16[128,256]{1,0:S(1)}) while(%start), condition=%less, body=%body
  ROOT %result = bf16[8,128]{1,0} get-tuple-element(%loop), index=1
}
"""
PRODUCT = 2 * 8 * 128 * 256
GIVEN, MADE = 2 * 8 * 128, 4 * 8 * 256  # bytes of the input and of the product; the weights lie in on-chip memory


def test_a_loops_body_counts_as_often_as_it_runs():
    cost = Walker(Module(LOOP)).total()
    assert cost.flops == 6 * PRODUCT
    counters = 6 * 3 * 4  # the addition to the counter reads and writes 4 bytes each
    assert cost.hbm_bytes == 6 * ((GIVEN + MADE) + 2 * MADE) + counters
    assert cost.collectives == [Collective("all-reduce", ((0, 1), (2, 3)), MADE, 6)]
    assert cost.notes == []


def test_an_operation_is_as_slow_as_the_slower_of_products_and_memory():
    flops_per_byte = 100.0
    cost = Walker(Module(LOOP), flops_per_byte=flops_per_byte).total()
    one = max(PRODUCT, flops_per_byte * (GIVEN + MADE))
    assert one > PRODUCT
    assert cost.busy_flops == 6 * (one + flops_per_byte * (2 * MADE + 12))
    assert cost.places["forward gdn_0 moe"] == {
        "flops": 6 * PRODUCT,
        "hbm_bytes": 6 * (GIVEN + MADE),
        "busy_flops": 6 * one,
    }


def test_a_loop_of_unknown_length_is_named():
    cost = Walker(Module(LOOP.replace("constant(6)", "parameter(1)"))).total()
    assert cost.flops == PRODUCT
    assert "loop" in cost.notes[0]
    assert "counted once" in cost.notes[0]


def test_a_rule_may_know_the_length_of_a_loop_that_the_program_does_not_tell():
    module = Module(LOOP.replace("constant(6)", "parameter(1)"))
    cost = Walker(module, loop_rule=lambda operation: 4).total()
    assert cost.flops == 4 * PRODUCT
    assert cost.notes == []


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,2},{1,3}}", ((0, 2), (1, 3))),
        ("replica_groups=[2,2]<=[4]", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", ((0, 1, 2, 3),)),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=4] {'a':(1)2}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=4] {'a':(2)2}", ((0, 1), (2, 3))),
    ],
)
def test_groups_are_read_in_every_spelling(text, groups):
    cost = Walker(Module(LOOP.replace("replica_groups=mesh['a'=2,'b'=2] {'b'}", text))).total()
    assert cost.collectives[0].groups == groups


# A gather that starts in one fusion, goes on inside a loop of 5 steps beside its products, and ends in a third.
GATHER = 'all-gather(%own), channel_id=7, replica_groups={{0,1}}, dimensions={0}, frontend_attributes={chain_id="0"}'
OVERLAPPED = f"""HloModule step

%begin (own: f32[4,128]) -> (f32[4,128], f32[8,128]) {{
  %own = f32[4,128]{{1,0}} parameter(0)
  %gather.1 = f32[8,128]{{1,0}} {GATHER}
  ROOT %start = (f32[4,128]{{1,0}}, f32[8,128]{{1,0}}) custom-call(%gather.1), custom_call_target="AsyncCollectiveStart"
}}

%onward (own: f32[4,128], far: f32[8,128], x: f32[2,128]) -> (f32[2,128], f32[4,128], f32[8,128]) {{
  %own = f32[4,128]{{1,0}} parameter(0)
  %far = f32[8,128]{{1,0}} parameter(1)
  %x = f32[2,128]{{1,0}} parameter(2)
  %gather.2 = f32[8,128]{{1,0}} {GATHER}
  %twice = f32[2,128]{{1,0}} add(%x, %x)
  ROOT %all = (f32[2,128]{{1,0}}, f32[4,128]{{1,0}}, f32[8,128]{{1,0}}) tuple(%twice, %own, %gather.2)
}}

%body (c: (s32[], f32[4,128], f32[8,128], f32[2,128])) -> (s32[], f32[4,128], f32[8,128], f32[2,128]) {{
  %c = (s32[], f32[4,128]{{1,0}}, f32[8,128]{{1,0}}, f32[2,128]{{1,0}}) parameter(0)
  %count = s32[] get-tuple-element(%c), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%count, %one)
  %mine = f32[4,128]{{1,0}} get-tuple-element(%c), index=1
  %theirs = f32[8,128]{{1,0}} get-tuple-element(%c), index=2
  %value = f32[2,128]{{1,0}} get-tuple-element(%c), index=3
  %step = (f32[2,128]{{1,0}}, f32[4,128]{{1,0}}, f32[8,128]{{1,0}}) fusion(%mine, %theirs, %value), calls=%onward
  ROOT %out = (s32[], f32[4,128]{{1,0}}, f32[8,128]{{1,0}}, f32[2,128]{{1,0}}) tuple(%next, %mine, %theirs, %value)
}}

%less (k: (s32[], f32[4,128], f32[8,128], f32[2,128])) -> pred[] {{
  %k = (s32[], f32[4,128]{{1,0}}, f32[8,128]{{1,0}}, f32[2,128]{{1,0}}) parameter(0)
  %count.2 = s32[] get-tuple-element(%k), index=0
  %limit = s32[] constant(5)
  ROOT %smaller = pred[] compare(%count.2, %limit), direction=LT
}}

ENTRY %main (own: f32[4,128], x: f32[2,128]) -> f32[8,128] {{
  %own.3 = f32[4,128]{{1,0}} parameter(0)
  %x.3 = f32[2,128]{{1,0}} parameter(1)
  %zero = s32[] constant(0)
  %begun = (f32[4,128]{{1,0}}, f32[8,128]{{1,0}}) fusion(%own.3), kind=kCustom, calls=%begin
  %far.3 = f32[8,128]{{1,0}} get-tuple-element(%begun), index=1
  %first = (s32[], f32[4,128]{{1,0}}, f32[8,128]{{1,0}}, f32[2,128]{{1,0}}) tuple(%zero, %own.3, %far.3, %x.3)
  %loop = (s32[], f32[4,128]{{1,0}}, f32[8,128]{{1,0}}, f32[2,128]{{1,0}}) while(%first), condition=%less, body=%body
  ROOT %result = f32[8,128]{{1,0}} get-tuple-element(%loop), index=2
}}
"""


def test_an_exchange_that_goes_on_over_several_fusions_counts_once():
    cost = Walker(Module(OVERLAPPED)).total()
    assert cost.collectives == [Collective("all-gather", ((0, 1),), 4 * 8 * 128, 1)]
    begun = 4 * (4 * 128 + 4 * 128 + 8 * 128)  # its own part read and handed on, the whole written
    assert cost.hbm_bytes == begun + 5 * (2 * 4 * 2 * 128 + 12)


KERNEL = """HloModule step

ENTRY %main (x: bf16[16,128]) -> bf16[16,128] {
  %x = bf16[16,128]{1,0} parameter(0)
  ROOT %my_kernel.3 = bf16[16,128] custom-call(%x), custom_call_target="tpu_custom_call", frontend_attributes={more={
"xprof_metadata":"{}"
}}, metadata={op_name="jit(step)/my_kernel"}ESTIMATE
}
"""


def test_a_kernel_counts_by_its_estimate_even_where_its_text_spans_lines():
    estimate = ', backend_config={"custom_call_config":{"cost_estimate":{"flops":"1000","bytes_accessed":"9000"}}}'
    cost = Walker(Module(KERNEL.replace("ESTIMATE", estimate))).total()
    assert (cost.flops, cost.hbm_bytes) == (1000, 9000)
    assert cost.kernels == {"my_kernel": {"calls": 1, "flops": 1000, "hbm_bytes": 9000}}


FUSED_KERNEL = """HloModule step

%fused (p0: bf16[4,16,128]) -> bf16[16,128] {
  %p0 = bf16[4,16,128]{2,1,0} parameter(0)
  %one = bf16[1,16,128]{2,1,0} slice(%p0), slice={[0:1], [0:16], [0:128]}
  %x = bf16[16,128]{1,0:S(1)} bitcast(%one)
  ROOT %my_kernel.3 = bf16[16,128]{1,0} custom-call(%x), custom_call_target="tpu_custom_call"ESTIMATE
}

ENTRY %main (x: bf16[4,16,128]) -> bf16[16,128] {
  %x = bf16[4,16,128]{2,1,0} parameter(0)
  ROOT %all = bf16[16,128]{1,0} fusion(%x), kind=kCustom, calls=%fused
}
"""


def test_a_kernel_inside_a_fusion_counts_with_what_the_fusion_reads_for_it():
    estimate = ', backend_config={"custom_call_config":{"cost_estimate":{"flops":"1000","bytes_accessed":"BYTES"}}}'
    text = FUSED_KERNEL.replace("ESTIMATE", estimate)
    cost = Walker(Module(text.replace("BYTES", "10"))).total()
    assert (cost.flops, cost.hbm_bytes) == (1000, 2 * 2 * 16 * 128)  # a slice of the four, and the result
    assert cost.kernels["my_kernel"]["calls"] == 1
    assert Walker(Module(text.replace("BYTES", "90000"))).total().hbm_bytes == 90000


def test_a_kernel_without_an_estimate_is_named():
    cost = Walker(Module(KERNEL.replace("ESTIMATE", ""))).total()
    assert (cost.flops, cost.hbm_bytes) == (0, 2 * 2 * 16 * 128)
    assert "my_kernel carries no cost estimate" in cost.notes[0]


@pytest.mark.parametrize(
    ("op_name", "expected"),
    [
        ("jit(step)/jvp(M)/decoder/decoder._loop/while/body/periods/gdn_0/linear_attn/in_proj/dot", "forward gdn_0"),
        ("jit(step)/transpose(jvp(M))/decoder/while/body/checkpoint/gdn_0/moe/dot", "backward gdn_0 moe"),
        ("jit(step)/transpose(jvp(M))/while/body/checkpoint/rematted_computation/gdn_0/moe/dot", "again gdn_0 moe"),
        ("jit(step)/add", "rest"),
    ],
)
def test_operations_are_placed_by_pass_and_module(op_name, expected):
    assert place(op_name).startswith(expected)


def test_groups_belong_to_the_mesh_axes_along_which_they_differ():
    mesh = {"fsdp": 2, "expert": 2, "tensor": 2}
    assert axes_of(((0, 4), (1, 5)), mesh) == ("fsdp",)
    assert axes_of(((0, 1, 2, 3),), mesh) == ("expert", "tensor")


def test_traffic_of_an_exchange_in_a_ring():
    """Eight chips, two links each: 7/8 of the bytes pass; a reduction to all passes twice; all-to-all a quarter."""
    whole = 8_000.0
    assert traffic(Collective("all-gather", (), whole, 1), 8, 2) == (7_000, 3_500)
    assert traffic(Collective("reduce-scatter", (), whole, 1), 8, 2) == (7_000, 3_500)
    assert traffic(Collective("all-reduce", (), whole, 1), 8, 2) == (14_000, 7_000)
    assert traffic(Collective("all-to-all", (), whole, 1), 8, 2) == (7_000, 8_000)
    assert traffic(Collective("collective-permute", (), whole, 1), 2, 1) == (whole, whole)
    assert traffic(Collective("all-gather", (), whole, 1), 1, 1) == (0, 0)


def test_bounds_by_hand():
    """Four v5e chips in a 2 x 2 grid without rings: a group of two has one link of 50 GB/s."""
    devices = [SimpleNamespace(coords=(x, y, 0)) for x in range(2) for y in range(2)]
    mesh = SimpleNamespace(shape={"a": 2, "b": 2}, size=4, devices=SimpleNamespace(flat=devices))
    piece = Slice.parse("v5e:2x2")
    limits = bounds(Walker(Module(LOOP)).total(), piece, mesh)
    assert limits.compute == pytest.approx(6 * PRODUCT / 197e12)
    assert limits.axis_bytes == {"a": 0, "b": 6 * MADE}
    assert limits.axes["b"] == pytest.approx(6 * MADE / 50e9)
    assert limits.seconds == max(limits.compute, limits.memory, limits.axes["b"])
    assert limits.limit == "b links"


def test_model_flops_by_hand():
    from qomni_jax.config.decoder import AttentionConfig, DecoderConfig, FeedForwardConfig, LanguageModelConfig

    config = LanguageModelConfig(
        vocab_size=10,
        decoder=DecoderConfig(
            model_dim=4,
            pattern=("attention",),
            attention=AttentionConfig(num_heads=2, num_kv_heads=1, head_dim=8, gated=False),
            feed_forward=FeedForwardConfig(hidden_dim=6, num_experts=3, top_k=2, expert_dim=5),
        ),
    )
    projections = 4 * 16 + 2 * 4 * 8 + 16 * 4  # q, k and v, output
    scores = 2 * 16 * 7.0  # scores and weighted values against 7 tokens
    experts = 3 * 4 * 6 + 2 * 3 * 4 * 5 + 4 * (3 + 1)  # shared, two chosen, router and gate
    expected = 2 * (projections + scores + experts + 4 * 10)
    assert model_flops(config, tokens=3, context=7.0, training=False) == 3 * expected
    assert model_flops(config, tokens=3, context=7.0, training=True) == 9 * expected
