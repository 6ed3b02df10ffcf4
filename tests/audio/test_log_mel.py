"""Log-mel features: equal to librosa, the same in numpy and jax, independent of the batch."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import librosa
import numpy as np
import pytest

from qomni_jax.audio.log_mel import frame_signal, hz_to_mel, log_mel, log_mel_jax, mel_filterbank, mel_to_hz
from qomni_jax.config.codec import LogMelConfig

CONFIG = LogMelConfig()
CONFIGS = (
    CONFIG,
    LogMelConfig(fft_size=400, window_size=400, num_mels=40, mel_scale="htk", power=2.0, clip=1e-6),
    LogMelConfig(sample_rate=22_050, fft_size=1024, window_size=1000, hop_size=256, num_mels=64, max_frequency=9000.0),
)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("config", CONFIGS)
def test_filterbank_equals_librosa(config):
    expected = librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.fft_size,
        n_mels=config.num_mels,
        fmin=config.min_frequency,
        fmax=config.max_frequency,
        htk=config.mel_scale == "htk",
        norm="slaney",
    )
    np.testing.assert_allclose(mel_filterbank(config), expected, atol=1e-7)


@pytest.mark.parametrize("config", CONFIGS)
def test_features_equal_librosa(config):
    audio = noise(40 * config.hop_size)
    edge = (config.window_size - config.hop_size) // 2
    # librosa centres the window in fft_size samples, so it needs half the difference more on each side.
    centring = (config.fft_size - config.window_size) // 2
    spectrogram = librosa.feature.melspectrogram(
        y=np.pad(audio, edge + centring),
        sr=config.sample_rate,
        n_fft=config.fft_size,
        hop_length=config.hop_size,
        win_length=config.window_size,
        center=False,
        power=config.power,
        n_mels=config.num_mels,
        fmin=config.min_frequency,
        fmax=config.max_frequency,
        htk=config.mel_scale == "htk",
    )
    expected = np.log(np.maximum(spectrogram, config.clip)).T
    # float32 transforms of different libraries; the logarithm magnifies small values.
    np.testing.assert_allclose(log_mel(audio, config), expected[:40], atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("samples", [1, 161, 6400])
def test_jax_equals_numpy(config, samples):
    audio = noise(samples)
    ours = np.asarray(log_mel_jax(audio, config))
    assert ours.shape == log_mel(audio, config).shape
    # Same reason as above.
    np.testing.assert_allclose(ours, log_mel(audio, config), atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(0, 5000), padding=st.integers(0, 2000))
def test_frames_do_not_depend_on_padding(samples, padding):
    audio = noise(samples)
    alone = log_mel(audio, CONFIG)
    assert alone.shape == (-(-samples // 160), 80)
    padded = log_mel(np.pad(audio, (0, padding)), CONFIG)
    # A matrix product of another height may round differently.
    np.testing.assert_allclose(padded[: len(alone)], alone, atol=1e-5)


def test_long_recordings_equal_their_parts():
    audio = noise(160 * 1500)
    whole, part = log_mel(audio, CONFIG), log_mel(audio[: 160 * 700], CONFIG)
    np.testing.assert_allclose(whole[:698], part[:698], atol=1e-6)


def test_integer_samples_are_fractions_of_full_scale():
    audio = (noise(3200) * 32_768).astype(np.int16)
    np.testing.assert_allclose(log_mel(audio, CONFIG), log_mel(audio / 32_768.0, CONFIG), atol=1e-6)


def test_silence_is_the_clip():
    np.testing.assert_allclose(log_mel(np.zeros(480, np.float32), CONFIG), np.log(1e-3), rtol=1e-6)


def test_gradient_is_finite_on_silence():
    gradient = jax.grad(lambda audio: log_mel_jax(audio, CONFIG).sum())(np.zeros(1600, np.float32))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_scale_inverts(scale):
    frequencies = np.linspace(0, 8000, 101)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(frequencies, scale), scale), frequencies, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(window=st.integers(1, 50), hop=st.integers(1, 50), extra=st.integers(0, 60))
def test_framing_equals_slices(window, hop, extra):
    signal = np.arange(window + extra, dtype=np.float32)
    expected = [signal[s : s + window] for s in range(0, len(signal) - window + 1, hop)]
    np.testing.assert_array_equal(frame_signal(signal, window, hop), expected)


@pytest.mark.parametrize("audio", [np.zeros((2, 5), np.float32), np.zeros(5, np.int32)])
def test_other_audio_is_refused(audio):
    with pytest.raises(ValueError, match="accepted is"):
        log_mel(audio, CONFIG)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mel_scale", "bark"),
        ("window_size", 2048),
        ("window_size", 641),
        ("hop_size", 0),
        ("max_frequency", 9000.0),
        ("min_frequency", 7900.0),
        ("clip", 0.0),
    ],
)
def test_wrong_configs_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} = .*accepted is"):
        dataclasses.replace(CONFIG, **{field: value})
