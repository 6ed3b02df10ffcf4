"""A codec small enough to compile in seconds, and recordings of chirps that it can learn."""

import numpy as np
import pytest

from qomni_jax.codec import Codec, fit_quantizer
from qomni_jax.config.codec import CodecConfig, CodecTrainingConfig, LogMelConfig, RVQConfig, VocoderConfig

TINY = CodecConfig(
    log_mel=LogMelConfig(num_mels=20),
    rvq=RVQConfig(stack=8, latent_dim=16, num_codebooks=3, codebook_size=16),
    vocoder=VocoderConfig(width=16, num_blocks=2, kernel_size=3, expansion=2, look_ahead=2),
)
TINY_TRAINING = CodecTrainingConfig(
    utterances=8, kmeans_iterations=4, steps=6, batch_size=4, crop_frames=5, warmup_steps=1, log_every=2
)


def chirp(samples: int, seed: int) -> np.ndarray:
    """A gliding tone with noise, int16 `[samples]`."""
    generator = np.random.default_rng(seed)
    low, high = generator.uniform(200, 3000, 2)
    phase = 2 * np.pi * np.cumsum(np.linspace(low, high, samples)) / 16_000
    audio = 0.3 * np.sin(phase) + 0.01 * generator.standard_normal(samples)
    return (audio * 32_767).astype(np.int16)


@pytest.fixture(scope="session")
def recordings() -> list[np.ndarray]:
    return [chirp(9000 + 1700 * seed, seed) for seed in range(8)]


@pytest.fixture(scope="session")
def codec(recordings) -> Codec:
    return fit_quantizer(recordings, TINY, TINY_TRAINING)
