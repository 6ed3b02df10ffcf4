"""Training the vision encoder alone: it learns what pictures show, wherever they stand in a batch."""

import jax
import numpy as np
import pytest

from qomni_jax.config.training import OptimizerConfig, VisionTrainingConfig
from qomni_jax.layers.linear import unbox
from qomni_jax.sizes import thinker_tiny
from qomni_jax.thinker.model import init_thinker
from qomni_jax.training.losses import IGNORED
from qomni_jax.training.vision_step import init_vision_state, make_vision_step

STEPS = 60
TRAINING = VisionTrainingConfig(steps=STEPS, optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=4))


@pytest.fixture(scope="module")
def config():
    return thinker_tiny(32)


def pictures(config, rng, shown: np.ndarray) -> dict[str, np.ndarray]:
    """Noise on a level of its own for each of four things to show; the last row is padding."""
    merged = config.vision.merged_patches
    patches = rng.normal(0, 0.3, (len(shown) + 1, merged, config.vision.patch_dim))
    patches[:-1] += np.linspace(-0.7, 0.7, 4)[shown][:, None, None]
    grids = np.full((len(shown) + 1, 2), config.vision.merge_size)
    grids[-1] = 0
    captions = np.full((len(shown) + 1, 2), IGNORED)
    captions[:-1, 0] = 5 + shown
    return {
        "patches": patches.astype(np.float32),
        "grids": grids.astype(np.int32),
        "captions": captions.astype(np.int32),
    }


def test_the_encoder_learns_what_pictures_show(config):
    rng = np.random.default_rng(0)
    params = unbox(init_thinker(config, jax.random.key(0)))["vision_encoder"]
    state, step = init_vision_state(config, TRAINING, params), make_vision_step(config, TRAINING)
    losses = []
    for _ in range(STEPS):
        state, metrics = step(state, pictures(config, rng, rng.integers(0, 4, 8)))
        losses.append(float(metrics["loss"]))
    # At first one of 32 tokens (3.5), then one of the four that are shown (1.4), then which.
    assert losses[0] > 2.5
    assert np.mean(losses[-5:]) < 0.5
