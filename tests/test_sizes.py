"""The named encoders have the parameters that their names and docstrings promise."""

import functools
import math

import jax
import numpy as np
import pytest

from qomni_jax import sizes
from qomni_jax.audio.aut import AudioEncoder
from qomni_jax.codec.waveform_model import init_parameters
from qomni_jax.sizes.codecs import CODECS
from qomni_jax.talker.talker import init_talker
from qomni_jax.vision.tower import VisionEncoder


def count(config) -> int:
    """Parameters of an encoder, without computing any."""
    if hasattr(config, "num_mels"):
        inputs = (np.zeros((1, 1, config.num_mels), np.float32), np.ones(1, np.int32))
        init = AudioEncoder(config).init
    else:
        inputs = (np.zeros((1, 4, config.patch_dim), np.float32), np.full((1, 2), 2, np.int32))
        init = VisionEncoder(config).init
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0), *inputs)))


def test_released_encoders_have_their_parameters():
    assert count(sizes.qwen3_omni_audio()) == 647_927_168
    assert count(sizes.qwen3_omni_vision()) == 538_631_408
    assert count(sizes.qwen3_5_vision()) == 446_571_248


@pytest.mark.parametrize(
    ("config", "about"),
    [
        (sizes.audio_encoder_tiny(), 20_000),
        (sizes.audio_encoder_small(), 690_000),
        (sizes.vision_encoder_tiny(), 87_000),
        (sizes.vision_encoder_small(), 1_400_000),
    ],
)
def test_small_encoders_are_as_small_as_they_say(config, about):
    assert count(config) == pytest.approx(about, rel=0.02)


def test_the_system_s_own_audio_encoder_gives_a_token_for_160_ms():
    config = sizes.audio_encoder()
    assert [config.num_tokens(frames) for frames in (16, 100, 160, 3000, 360_000)] == [1, 7, 10, 188, 22_500]
    assert config.window_frames == 800


def test_talkers_and_codecs_of_a_size_belong_together():
    """Without computing anything: the parameters they say, and the same codes on both sides, 80 ms a frame."""
    about = {"tiny": (7.4e4, 9.1e4), "small": (3.5e6, 6.6e6), "flash": (3.757e9, 2.16e8), "plus": (3.757e9, 2.16e8)}
    for name, expected in about.items():
        talker, codec = sizes.TALKERS[name](), CODECS[name]()
        inits = (functools.partial(init_talker, talker), functools.partial(init_parameters, codec))
        for init, count in zip(inits, expected, strict=True):
            leaves = jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)))
            assert sum(math.prod(leaf.shape) for leaf in leaves) == pytest.approx(count, rel=0.05)
        assert (talker.num_codebooks, talker.codebook_size) == (
            codec.quantizer.num_codebooks,
            codec.quantizer.codebook_size,
        )
        assert codec.frame_rate == 12.5
