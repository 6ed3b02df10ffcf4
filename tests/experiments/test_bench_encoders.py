"""The bench of the encoders: both sides do the same work, a peer in this process takes turns, memory is counted."""

import dataclasses

import numpy as np
import pytest

from experiments.bench import encoders, long_file
from experiments.bench.timing import Case, run_case
from qomni_jax.audio.features import encoder_features
from qomni_jax.interop.encoder_families import parse_audio_encoder, parse_vision_encoder


def test_the_peers_words_describe_our_encoders():
    released = {"model_type": "qwen3_omni_moe_audio_encoder", "activation_function": "gelu", "scale_embedding": False}
    ours = dataclasses.replace(encoders.AUT, conv_batch=500, training_windows=(13, 104))
    assert parse_audio_encoder(released | encoders.aut_peer_config()).config == ours
    for name, config in (("qwen3_5_vision", encoders.VIT), ("qwen3_omni_moe_vision_encoder", encoders.DEEPSTACK)):
        released = {"model_type": name, "hidden_act": "gelu_pytorch_tanh"}
        assert parse_vision_encoder(released | encoders.vit_peer_config(config)).config == config


def test_cases_and_their_work():
    found = {case.name: case for case in encoders.cases(1)}
    assert list(found)[:5] == [
        "aut 30 s fp32",
        "aut 300 s fp32",
        "vit 4 images fp32",
        "vit deepstack 4 images fp32",
        "log-mel 600 s",
    ]
    # Convolutions 20.4, their output 1.2, blocks and projector 20.9; blocks 183 of the 213, patches 5, merger 10 GFLOP.
    assert found["aut 30 s fp32"].flops == pytest.approx(42.5e9, rel=2e-3)
    assert found["aut 300 s fp32"].flops == pytest.approx(10 * found["aut 30 s fp32"].flops)
    assert found["vit 4 images fp32"].flops == pytest.approx(213e9, rel=2e-2)
    work = found["vit 4 images fp32"].peer[0]
    assert (work["tokens"], work["patch"], work["grids"]) == (784, 1536, [[1, 28, 28]] * 4)


def test_librosa_computes_the_same_features():
    samples = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    theirs = encoders.librosa_features(samples)
    # The same float32 sums in another order, under a logarithm.
    np.testing.assert_allclose(encoder_features(samples, encoders.LOG_MEL), theirs[:, :-1].T, rtol=0, atol=2e-5)


def test_a_peer_in_this_process_takes_turns_with_ours():
    calls: list[str] = []
    case = Case("x", lambda: lambda: calls.append("ours"), beside=lambda: lambda: calls.append("theirs"))
    assert run_case(case, None, 1)["ratio"] is None
    calls.clear()
    row = run_case(case, object(), 2)
    assert calls == ["ours", "theirs"] * 2
    assert row["ratio"] == row["peer"] / row["ours"]


@pytest.mark.skipif(not long_file.PEAK.exists(), reason="the system does not count the peak of resident memory anew")
def test_a_long_recording_adds_less_than_its_samples_to_memory():
    """400 s are 26 MB of float32 samples and 20 MB of features; the allocator's pools may still grow a little."""
    assert long_file.growth(400) < 18
