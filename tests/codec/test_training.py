"""Codec training: it learns, repeats from its seed, and resumes exactly."""

import dataclasses

import jax
import numpy as np
import pytest

from qomni_jax.audio.log_mel import log_mel_jax
from qomni_jax.codec import fit
from qomni_jax.codec.losses import mel_loss, stft_loss
from qomni_jax.codec.training import codebook_usage
from qomni_jax.config.codec import CodecTrainingConfig, LogMelConfig
from tests.codec.conftest import TINY, TINY_TRAINING


def assert_same(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_lowers_the_loss(recordings):
    lines = []
    training = dataclasses.replace(TINY_TRAINING, steps=40, learning_rate=1e-2, log_every=5)
    result = fit(recordings, TINY, training, progress=lines.append)
    assert result.history[-1]["loss"] < 0.9 * result.history[0]["loss"]
    assert [entry["step"] for entry in result.history] == list(range(5, 41, 5))
    assert lines[0].startswith("codec k-means: ")
    assert lines[-1].startswith("codec step 40/40 ")
    assert lines[-1].endswith("left 0 s")
    assert len(result.usage) == 3


def test_a_resumed_run_equals_an_uninterrupted_one(recordings, tmp_path):
    training = dataclasses.replace(TINY_TRAINING, checkpoint_every=2)
    whole = fit(recordings, TINY, training)

    class Interruption(Exception):
        pass

    def stop_after_four(line):
        if line.startswith("codec step 4/"):
            raise Interruption

    with pytest.raises(Interruption):
        fit(recordings, TINY, training, workdir=tmp_path / "run", progress=stop_after_four)
    lines = []
    resumed = fit(recordings, TINY, training, workdir=tmp_path / "run", progress=lines.append)
    assert lines[0] == "codec continues at step 2/6"
    assert resumed.history == whole.history
    assert_same(resumed.codec.params, whole.codec.params)
    again = fit(recordings, TINY, training, workdir=tmp_path / "run")
    assert_same(again.codec.params, whole.codec.params)


def test_a_work_directory_of_another_run_is_refused(recordings, tmp_path):
    training = dataclasses.replace(TINY_TRAINING, steps=1)
    fit(recordings, TINY, training, workdir=tmp_path)
    with pytest.raises(ValueError, match=r"training.seed = 0: accepted is 1, or another work directory"):
        fit(recordings, TINY, dataclasses.replace(training, seed=1), workdir=tmp_path)


def test_a_fixed_quantizer_keeps_its_codes(recordings, codec):
    training = dataclasses.replace(TINY_TRAINING, rvq_learning_rate_scale=0.0)
    trained = fit(recordings, TINY, training).codec
    assert_same(trained.params["rvq"], codec.params["rvq"])


def test_recordings_shorter_than_a_crop_are_padded(recordings):
    short = [recording[:4000] for recording in recordings]
    result = fit(short, TINY, dataclasses.replace(TINY_TRAINING, steps=1))
    assert np.isfinite(result.history[0]["loss"])


def test_no_recordings_are_refused():
    with pytest.raises(ValueError, match="0 recordings: accepted is at least 1"):
        fit([], TINY, TINY_TRAINING)


def test_usage_counts_entries():
    usage = codebook_usage(np.array([[0, 1], [0, 2], [0, 3], [0, 0]]), 8)
    assert usage[0] == {"used": 1 / 8, "perplexity": pytest.approx(1.0)}
    assert usage[1] == {"used": 4 / 8, "perplexity": pytest.approx(4.0)}


def test_losses_vanish_on_equal_waveforms():
    audio = 0.1 * jax.random.normal(jax.random.key(0), (2, 8000))
    assert stft_loss(audio, audio) == pytest.approx(0.0, abs=1e-4)
    mel = log_mel_jax(audio, LogMelConfig())
    assert mel_loss(audio, mel, LogMelConfig()) == 0.0
    assert mel_loss(audio[:, :3000], mel, LogMelConfig()) == pytest.approx(0.0, abs=1e-5)
    assert mel_loss(0.5 * audio, mel, LogMelConfig()) == pytest.approx(np.log(2), abs=1e-3)
    assert stft_loss(0.5 * audio, audio) > 0.5


@pytest.mark.parametrize(("field", "value"), [("steps", -1), ("batch_size", 0), ("learning_rate", 0.0)])
def test_wrong_configs_are_refused(field, value):
    with pytest.raises(ValueError, match=f"CodecTrainingConfig.{field} = {value}: accepted is"):
        CodecTrainingConfig(**{field: value})
