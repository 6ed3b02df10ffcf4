"""The codec on recordings and on disk."""

import dataclasses
import json

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from qomni_jax.audio.log_mel import mel_filterbank
from qomni_jax.codec import Codec, griffin_lim
from qomni_jax.codec.griffin_lim import non_negative_inverse
from qomni_jax.config.codec import RVQConfig
from tests.codec.conftest import TINY, chirp


def test_recordings_become_codes_and_speech(codec, recordings):
    codes = codec.encode_audio(recordings)
    for recording, item in zip(recordings, codes, strict=True):
        assert item.shape == (-(-len(recording) // 1280), 3)
        assert item.dtype == np.uint16
    for item, samples in zip(codes, codec.decode_codes(codes), strict=True):
        assert samples.shape == (len(item) * 1280,)
        assert samples.dtype == np.float32


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(0, 9000), max_size=4))
def test_codes_do_not_depend_on_the_batch(codec, lengths):
    batch = [chirp(length, seed) for seed, length in enumerate(lengths)]
    for recording, codes in zip(batch, codec.encode_audio(batch), strict=True):
        np.testing.assert_array_equal(codec.encode_audio([recording])[0], codes)


def test_long_lists_equal_their_items(codec):
    batch = [chirp(1280 * 70, seed) for seed in range(3)] * 22
    codes = codec.encode_audio(batch)
    assert sum(map(len, codes)) > 4096
    for index in (0, 1, 2, 30, 65):
        np.testing.assert_array_equal(codes[index], codec.encode_audio([batch[index]])[0])


def test_integer_and_floating_audio_give_the_same_codes(codec, recordings):
    floats = [recording / 32_768.0 for recording in recordings]
    for a, b in zip(codec.encode_audio(recordings), codec.encode_audio(floats), strict=True):
        np.testing.assert_array_equal(a, b)


def test_more_codebooks_lower_the_error(codec, recordings):
    errors = []
    mel = codec.features(recordings[0]).reshape(-1, 20)
    codes = codec.encode_audio(recordings[:1])[0]
    for levels in (1, 2, 3):
        config = dataclasses.replace(TINY, rvq=dataclasses.replace(TINY.rvq, num_codebooks=levels))
        rvq = codec.params["rvq"]
        params = {**codec.params, "rvq": {**rvq, "codebooks": rvq["codebooks"][:levels]}}
        errors.append(((Codec(config, params).decode_mel(codes[:, :levels]) - mel) ** 2).mean())
    assert errors == sorted(errors, reverse=True)


def test_nothing_in_nothing_out(codec):
    assert codec.encode_audio([]) == []
    assert codec.decode_codes([]) == []
    assert codec.encode_audio([np.zeros(0, np.int16)])[0].shape == (0, 3)
    assert codec.decode_codes([np.zeros((0, 3), np.uint16)])[0].shape == (0,)
    assert codec.decode_mel(np.zeros((0, 3), np.uint16)).shape == (0, 20)
    assert codec.stream().finish().shape == (0,)


def test_griffin_lim_keeps_length_and_pitch(codec):
    tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(1280 * 4) / 16_000)
    mel = codec.features(tone).reshape(-1, 20)
    samples = griffin_lim(mel, TINY.log_mel, iterations=8)
    assert samples.shape == (len(tone),)
    peak = np.abs(np.fft.rfft(samples)).argmax() * 16_000 / len(samples)
    # Twenty mel bands are about 100 Hz wide at 1 kHz.
    assert abs(peak - 1000) < 150
    assert griffin_lim(mel[:0], TINY.log_mel).shape == (0,)


def test_mel_inversion_is_non_negative_and_reproduces_the_mel():
    filters = mel_filterbank(TINY.log_mel)
    mel = filters @ np.random.default_rng(0).uniform(0, 1, (filters.shape[1], 30)).astype(np.float32)
    spectrum = non_negative_inverse(filters, mel)
    assert spectrum.min() >= 0
    np.testing.assert_allclose(filters @ spectrum, mel, rtol=0.01)


@pytest.mark.parametrize(("shape", "iterations"), [((5, 19), 8), ((20,), 8), ((5, 20), 0)])
def test_griffin_lim_refuses_other_input(shape, iterations):
    with pytest.raises(ValueError, match="accepted is"):
        griffin_lim(np.zeros(shape), TINY.log_mel, iterations)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((4, 2), np.int32), r"shape \(4, 2\): accepted is \[frames, 3\]"),
        (np.zeros((4, 3), np.float32), "dtype float32: accepted is an integer"),
        (np.full((4, 3), 16), "code 16: accepted is 0 to 15"),
        (np.full((4, 3), -1), "code -1: accepted is 0 to 15"),
    ],
)
def test_wrong_codes_are_refused(codec, codes, message):
    with pytest.raises(ValueError, match=message):
        codec.decode_codes([codes])


def test_a_stream_refuses_wrong_frames(codec):
    with pytest.raises(ValueError, match=r"shape \(2,\): accepted is \[3\]"):
        codec.stream().push(np.zeros(2, np.int32))


def test_save_and_load_round_trip(codec, recordings, tmp_path):
    codec.save(tmp_path / "codec")
    codec.save(tmp_path / "codec")
    loaded = Codec.load(tmp_path / "codec", TINY)
    assert loaded.config == TINY
    codes = codec.encode_audio(recordings[:2])
    for a, b in zip(codes, loaded.encode_audio(recordings[:2]), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(codec.decode_codes(codes)[0], loaded.decode_codes(codes)[0])
    assert [path.name for path in tmp_path.iterdir()] == ["codec"]


def test_loading_another_config_is_refused(codec, tmp_path):
    codec.save(tmp_path / "codec")
    other = dataclasses.replace(TINY, rvq=RVQConfig(latent_dim=16, num_codebooks=5, codebook_size=16))
    with pytest.raises(ValueError, match=r"rvq.num_codebooks = 3: accepted is 5"):
        Codec.load(tmp_path / "codec", other)


def test_loading_from_nowhere_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing: accepted is a directory written by Codec.save"):
        Codec.load(tmp_path / "missing")


def test_loading_damage_is_refused(codec, tmp_path):
    codec.save(tmp_path / "codec")
    config = tmp_path / "codec" / "config.json"
    text = config.read_text()
    fields = json.loads(text)
    fields["vocoder"]["width"] = 24
    for damaged, message in (
        ("{", "is not a codec config"),
        (text.replace("qomni_jax.codec.1", "other"), "format 'other': accepted is 'qomni_jax.codec.1'"),
        (text.replace("num_blocks", "blocks"), "is not a codec config"),
        (json.dumps(fields), "vocoder/.* has shape .*: accepted is"),
    ):
        config.write_text(damaged)
        with pytest.raises(ValueError, match=message):
            Codec.load(tmp_path / "codec")


def test_saving_over_something_else_is_refused(codec, tmp_path):
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="accepted is a new or empty directory"):
        codec.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "keep"
