"""The speaker encoder: it learns voices, hears none of their level, and comes back from disk."""

import numpy as np
import pytest

from experiments.voice.speaker_encoder import (
    SpeakerEncoderConfig,
    open_speaker_encoder,
    save_speaker_encoder,
    train_speaker_encoder,
)
from qomni_jax.config.codec import LogMelConfig


def recording(voice: int, seed: int) -> np.ndarray:
    """Noise with the resonance of a voice."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(9600))
    frequency = np.fft.rfftfreq(9600, 1 / 16_000)
    spectrum *= np.exp(-(((frequency - 700 - 600 * voice) / 300) ** 2)) + 0.05
    audio = np.fft.irfft(spectrum)
    return (audio * rng.uniform(0.05, 0.3) / np.abs(audio).max()).astype(np.float32)


@pytest.fixture(scope="module")
def encoder():
    config = SpeakerEncoderConfig(
        voices=4, log_mel=LogMelConfig(num_mels=20), width=16, dim=8, crop_frames=32, steps=60, batch_size=16
    )
    voices = [index % 4 for index in range(32)]
    return train_speaker_encoder([recording(v, s) for s, v in enumerate(voices)], voices, config)


def test_recordings_of_one_voice_are_more_alike(encoder):
    vectors = encoder.embed([recording(voice, 100 + seed) for voice in range(4) for seed in range(3)])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    similarity = vectors @ vectors.T
    same = np.arange(12)[:, None] // 3 == np.arange(12)[None] // 3
    assert similarity[same].mean() > similarity[~same].mean() + 0.3


def test_neither_level_nor_company_changes_an_embedding(encoder):
    audio = recording(1, 7)
    alone = encoder.embed([audio])[0]
    among = encoder.embed([recording(2, 8), audio, 0.01 * audio, audio[:3000]])
    np.testing.assert_allclose(among[1], alone, atol=1e-5)
    np.testing.assert_allclose(among[2], alone, atol=1e-3)  # float32 of a signal 40 dB down, through a logarithm
    assert np.isfinite(among).all()  # shorter than a crop: repeated


def test_it_comes_back_from_disk(encoder, tmp_path):
    save_speaker_encoder(tmp_path / "encoder", encoder)
    found = open_speaker_encoder(tmp_path / "encoder")
    assert found.config == encoder.config
    np.testing.assert_array_equal(found.embed([recording(3, 9)]), encoder.embed([recording(3, 9)]))
    with pytest.raises(ValueError, match="nowhere"):
        open_speaker_encoder(tmp_path / "nowhere")
