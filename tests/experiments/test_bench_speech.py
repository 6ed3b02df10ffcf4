"""The benches of speech: both sides do the same work, streams run as they are timed, predictions come from plans."""

import json

import jax
import numpy as np
import pytest

from experiments.bench import codec, first_packet, omni_checkpoint, streaming, talker
from qomni_jax.interop import open_qwen3_omni
from qomni_jax.interop.codec_families import parse_codec


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(omni_checkpoint.write_checkpoint(tmp_path_factory.mktemp("omni")))


def test_the_checkpoint_is_whole_and_the_same_for_a_seed(checkpoint):
    opened, params = open_qwen3_omni([checkpoint])
    assert opened.talker.accept_layer == 2
    assert 2.3e6 < sum(leaf.size for leaf in jax.tree.leaves(params)) < 2.8e6
    first, again = (omni_checkpoint.random_tensors(seed=3) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not params["talker"]["codec_head"]["kernel"][:, omni_checkpoint.CODEC_EOS].any()


def test_the_peer_is_asked_for_as_many_tokens_codes_and_samples(checkpoint):
    cases = {case.name: case for case in talker.cases(1, checkpoint)}
    text, audio = (cases[f"spoken answer {kind} fp32"].peer[0] for kind in ("text", "audio"))
    assert (text["tokens"], text["codes"], text["samples"]) == (16, 31, 58_965)
    assert audio["ids"].count(omni_checkpoint.AUDIO) == 27  # of 203 frames, as transformers counts them
    assert [form["experts"] for form in cases["spoken answer text fp32"].peer] == ["eager", "grouped_mm"]
    assert "hybrid frame 5000 fp32" in cases


@pytest.mark.e2e
def test_the_tiny_model_answers_with_as_many_as_asked(checkpoint):
    answer = talker._spoken_answer(checkpoint, talker.FRAMES)()
    assert len(answer.samples) == 58_965


def test_codecs_and_their_work(monkeypatch):
    names = [case.name for case in codec.cases(1)]
    assert names[:3] == [
        "code2wav decode 750 frames fp32",
        "mimi decode 250 frames fp32",
        "mimi encode 250 frames fp32",
    ]
    assert parse_codec(codec.MIMI).config.samples_per_frame == parse_codec(codec.CODE2WAV).config.samples_per_frame
    # 25 million parameters of the transformer a frame; a convolution has 8 C^2 a step, three of them at every rate.
    units = sum(3 * 8 * c**2 * steps for c, steps in ((192, 32), (96, 160), (48, 640), (24, 1920)))
    assert 1 < codec.codec_flops(codec.codec_config("code2wav"), 1) / (2 * (units + 8 * (4 + 9) * 512**2)) < 1.5
    rows = [{"case": "mimi encode 250 frames fp32", "ours": 2.5}, {"case": "mimi encode streamed fp32", "ours": 0.03}]
    (row,) = codec.summary(rows)
    assert (row["case"], row["ours"]) == ("mimi encode streamed, of at once", pytest.approx(3.0))


def test_a_first_packet_is_the_sum_of_its_stages():
    found = streaming.measure("tiny", 2, 1)
    assert all(found[name] > 0 for name in (*streaming.STAGES, *streaming.AFTERWARDS))
    stages = sum(found[name] for name in streaming.STAGES if name != "overall")
    assert found["overall"] == pytest.approx(stages, rel=0.1)
    assert streaming.cases(1, "tiny")[0].name == "tiny 1 stream encode"


def test_a_prediction_adds_up_plans_and_names_those_that_are_missing(tmp_path, capsys):
    place = first_packet.Place("flash", "v5p:2x2x2", 8)
    for number, (step, _) in enumerate(first_packet.STAGES.values(), 1):
        plan = {"step_seconds_bound": number * 1e-3, "step_seconds_serial": number * 2e-3, "bound_by": "memory"}
        (tmp_path / place.file(step)).write_text(json.dumps(plan))
    rows = {row["case"]: row for row in first_packet.predict(str(tmp_path))}
    overall = rows["flash v5p:2x2x2 overall"]
    assert overall["ours"] == pytest.approx(1e-3 * (1 + 2 + 3 + 3 * 4 + 5))
    assert overall["in_turn"] == pytest.approx(2 * overall["ours"])
    assert rows["flash v5p:2x2x2 real-time factor"]["ours"] == pytest.approx(9e-3 / 0.08)
    said = capsys.readouterr().out
    assert "235 / 298 / 352" in said
    assert (
        "python -m tpu_scripts.plan --size=plus --topology=v5p:4x4x4 --step=prefill --batch=64 --context=8192" in said
    )
    assert "plus v5p:4x4x4 overall" not in rows
