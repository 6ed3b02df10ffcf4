"""The plan command: what it refuses, how it lays out a mesh, and a plan small enough to be compiled here."""

import importlib.util
import json
from pathlib import Path

import pytest

from experiments.bench.codec import codec_flops
from tpu_scripts.chips import Slice
from tpu_scripts.media_steps import encoder_flops, medium, planned_thinker
from tpu_scripts.plan import main
from tpu_scripts.speech_steps import planned_codec, planned_talker, talker_flops
from tpu_scripts.steps import STAGES, Request, planned_config

TINY = ("--size=tiny", "--topology=v5e:2x2")


@pytest.mark.parametrize(
    ("flags", "named", "accepted"),
    [
        (("--size=huge", "--topology=v5e:2x2"), "--size=huge", "tiny, small, flash, plus"),
        (("--size=tiny", "--topology=v9:2x2"), "--topology=v9:2x2", "v5e, v5p, v6e"),
        (("--size=tiny", "--topology=v5e"), "--topology=v5e", "shapes of v5e are 1x1, 2x2"),
        (("--size=tiny", "--topology=v5e:3x5"), "--topology=v5e:3x5", "shapes of v5e are 1x1, 2x2"),
        (("--size=tiny", "--topology=v5p:4x4"), "--topology=v5p:4x4", "4x4x4"),
        ((*TINY, "--stage=S9"), "--stage=S9", "S1, S2, S3"),
        ((*TINY, "--step=sleep"), "--step=sleep", "train, prefill, decode, encode_audio, encode_video, talker_"),
        (
            ("--size=qwen3_5_27b", "--topology=v5e:2x2", "--step=encode_audio"),
            "--size=qwen3_5_27b",
            "sizes with encoders",
        ),
        (
            ("--size=qwen3_5_27b", "--topology=v5e:2x2", "--step=codec_frame"),
            "--size=qwen3_5_27b",
            "a Talker and a codec",
        ),
        ((*TINY, "--mesh=fsdp=3"), "--mesh=fsdp=3", "product is 4, the chips of v5e:2x2"),
        ((*TINY, "--mesh=rows=4"), "--mesh=rows=4", "data, fsdp, expert, tensor, context"),
        ((*TINY, "--mesh=fsdp"), "--mesh=fsdp", "such as fsdp=16,expert=4"),
        ((*TINY, "--batch=3"), "--batch=3", "multiple of 4"),
        ((*TINY, "--context=0"), "--context=0", "whole number from 1"),
        ((*TINY, "--context=many"), "--context: invalid int value: 'many'", "--help"),
        ((*TINY, "--remat=all"), "--remat=all", "gdn_in, gdn_out"),
        ((*TINY, "--json=/no/such/place/plan.json"), "/no/such/place/plan.json", "directory that exists"),
        ((*TINY, "--json=/"), "/: accepted is a file", "directory that exists"),
        (("--topology=v5e:2x2",), "--size", "--help"),
        ((*TINY, "--fast"), "--fast", "--help"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_compiled(flags, named, accepted, capsys):
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert named in said.err
    assert accepted in said.err


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="the aot extra is installed")
def test_without_the_compiler_the_plan_says_what_to_install(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main((*TINY, f"--json={tmp_path}/plan.json"))
    assert ended.value.code == 2
    assert "pip install -e .[aot]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_meshes_that_are_chosen_multiply_to_the_slice_and_divide_the_experts():
    for size, topology, step in [
        ("flash", "v5p:4x4x4", "train"),
        ("plus", "v5p:8x8x16", "train"),
        ("plus", "v5p:4x4x4", "decode"),
        ("tiny", "v5e:1x1", "decode"),
        ("flash", "v5p:2x2x2", "talker_frame"),
    ]:
        request = Request(size=size, topology=topology, step=step)
        chips = 1
        for parts in request.mesh_sizes.values():
            chips *= parts
        assert chips == Slice.parse(topology).chips
        assert 512 % request.mesh_sizes["expert"] == 0


@pytest.mark.aot
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the aot extra")
def test_the_smallest_plan_compiles_and_its_figures_hang_together(tmp_path, capsys):
    out = tmp_path / "plan.json"
    flags = ("--size=tiny", "--topology=v5e:2x2", "--context=128", f"--json={out}")
    assert main(flags) == 0
    figures = json.loads(out.read_text())
    assert figures["fits"]
    assert figures["mesh"] == {"fsdp": 4}
    assert sum(figures["bytes"].values()) == figures["peak_bytes"] < figures["hbm_bytes"]
    assert figures["flops"] >= figures["model_flops"] > 0
    assert figures["collective_bytes"]["fsdp"] > 0
    assert figures["step_seconds_bound"] == max(figures["seconds"].values())
    assert 0 < figures["mfu_serial"] <= figures["mfu_bound"] <= 1
    assert not [note for note in figures["notes"] if "kernel" in note or "loop" in note]
    assert "fits" in capsys.readouterr().out
    assert [path.name for path in Path(tmp_path).iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("step", "batch", "row", "calls", "tokens"),
    [("encode_audio", 512, 50, 9, 225_000), ("encode_video", 64, 880, 4, 176_000)],
)
def test_long_media_are_so_many_rows_and_calls(step, batch, row, calls, tokens):
    request = Request(size="flash", topology="v5p:4x4x4", step=step, batch=batch)
    assert (request.tokens, request.calls) == (row, calls)
    assert request.mesh_sizes == {"data": 64}
    assert medium("flash", step).rows * row == tokens < STAGES["S3"]


def test_a_prompt_is_read_in_chunks():
    request = Request(size="flash", topology="v5p:4x4x4", step="prefill", stage="S3")
    assert (request.prompt_chunk, request.calls) == (2_048, 128)


def test_an_encoders_operations_follow_from_its_sizes():
    """Two a parameter and input for the blocks, which dominate; attention and convolutions come on top."""
    config = planned_thinker("flash", 1)
    for step, blocks, length in (
        ("encode_audio", config.audio.encoder, 50),
        ("encode_video", config.vision.encoder, 3520),
    ):
        found = encoder_flops(config, medium("flash", step), rows=3)
        weights = blocks.num_layers * (4 * blocks.model_dim**2 + 2 * blocks.model_dim * blocks.mlp_dim)
        scores = blocks.num_layers * 2 * length * blocks.model_dim
        assert 1.0 < found / (3 * 2 * length * (weights + scores)) < 2.0


@pytest.mark.aot
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the aot extra")
@pytest.mark.parametrize("step", ["encode_audio", "prefill"])
def test_long_context_compiles_at_the_smallest_size(step, tmp_path, capsys):
    out = tmp_path / "plan.json"
    flags = (*TINY, f"--step={step}", "--context=1024", "--chunk=512", "--batch=4", f"--json={out}")
    assert main(flags) == 0
    figures = json.loads(out.read_text())
    assert figures["flops"] >= 0.9 * figures["model_flops"] > 0  # attention counts a chunk's whole context
    assert not [note for note in figures["notes"] if "kernel" in note or "loop" in note]
    said = capsys.readouterr().out
    if step == "prefill":
        assert figures["bytes"]["features"] == 2 * 1024 * 32
        assert "the last of 2 such calls" in said
    else:
        assert "5625 such calls encode ten hours of sound" in said


def test_weights_stay_where_a_call_has_few_tokens():
    for step, chunk, stays in (("decode", None, True), ("prefill", 64, True), ("prefill", None, False)):
        request = Request(size="flash", topology="v5p:2x2x2", step=step, chunk=chunk, batch=8)
        assert request.weights_stay == stays
        assert request.mesh_sizes == ({"data": 1, "expert": 8} if stays else {"fsdp": 8, "expert": 1})
        assert planned_config(request).decoder.feed_forward.dispatch == ("ring" if stays else "local")


def test_a_frame_s_operations_follow_from_the_sizes():
    """Two a weight that is visited, a frame's codes one after another; the released codec's parameters but for its
    table, as often as a frame passes through them."""
    talker = planned_talker("flash")
    width, books, codes = 1024, 16, 2048
    layer = width * (2 * 2048 + 2 * 1024) + 3 * width * 3072
    least = books * 5 * layer + (books - 1) * width * codes
    assert 1.0 < talker_flops(talker, 1, 1) / (2 * least) < 1.5  # besides, the backbone: 0.4 billion parameters a step
    assert codec_flops(planned_codec("flash"), 2) == 2 * codec_flops(planned_codec("flash"), 1)
    # As the TPU compiler counts a frame of the same: 5.03e9.
    assert codec_flops(planned_codec("flash"), 1) == pytest.approx(5.03e9, rel=0.03)


@pytest.mark.aot
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the aot extra")
@pytest.mark.parametrize(("step", "part"), [("talker_frame", "cache"), ("codec_frame", "state")])
def test_a_frame_of_speech_compiles_at_the_smallest_size(step, part, tmp_path):
    out = tmp_path / "plan.json"
    assert main((*TINY, f"--step={step}", "--context=128", f"--json={out}")) == 0
    figures = json.loads(out.read_text())
    assert figures["flops"] >= figures["model_flops"] > 0
    assert figures["bytes"][part] > 0
    assert not [note for note in figures["notes"] if "kernel" in note or "loop" in note]
