"""The hybrid decoder: caches, packed rows, router statistics."""

import dataclasses

import jax
import numpy as np
import pytest

from qomni_jax.config.decoder import AttentionConfig, DecoderConfig, FeedForwardConfig, GatedDeltaNetConfig
from qomni_jax.layers.decoder import Decoder, empty_cache
from qomni_jax.layers.feed_forward import MixtureOfExperts
from qomni_jax.layers.linear import unbox
from qomni_jax.sizes import talker_tiny

CONFIG = talker_tiny().decoder
ROWS, STEPS = 3, 30


@pytest.fixture(scope="module")
def setting():
    x = np.random.default_rng(0).standard_normal((ROWS, STEPS, CONFIG.model_dim), np.float32)
    positions = np.broadcast_to(np.arange(STEPS), (ROWS, STEPS))
    model = Decoder(CONFIG)
    variables = unbox(jax.jit(model.init)(jax.random.key(1), x[:1, :1], positions[:1, :1], np.ones((1, 1), np.float32)))
    return jax.jit(model.apply), variables, x, positions


def ones(steps: int) -> np.ndarray:
    return np.ones((ROWS, steps), np.float32)


def test_prefill_steps_and_chunk_equal_one_pass(setting):
    apply, variables, x, positions = setting
    whole, _, _ = apply(variables, x, positions, ones(STEPS))
    cache = empty_cache(CONFIG, ROWS, STEPS)
    outputs = []
    for start, end in [(0, 12), *((t, t + 1) for t in range(12, 18)), (18, 30)]:
        part = slice(start, end)
        out, cache, _ = apply(variables, x[:, part], positions[:, part], None, cache)
        outputs.append(out)
    np.testing.assert_allclose(np.concatenate(outputs, 1), whole, atol=5e-5)


def test_packed_equals_separate(setting):
    apply, variables, x, positions = setting
    sizes = (9, 14, 7)
    segments = np.repeat(np.arange(3), sizes)
    inside = np.concatenate([np.arange(size) for size in sizes])
    packed, _, _ = apply(variables, x, inside[None].repeat(ROWS, 0), ones(STEPS), None, segments[None].repeat(ROWS, 0))
    # Each segment of the first row in a row of its own; what stands behind it there is not seen.
    parts = [slice(0, 9), slice(9, 23), slice(23, 30)]
    rows = [np.concatenate([x[0, part], x[1, : STEPS - (part.stop - part.start)]]) for part in parts]
    separate, _, _ = apply(variables, np.stack(rows), positions, ones(STEPS))
    for part, size, alone in zip(parts, sizes, separate, strict=True):
        np.testing.assert_allclose(packed[0, part], alone[:size], atol=5e-5)


def test_router_statistics_count_unmasked_tokens_in_every_layer(setting):
    apply, variables, x, positions = setting
    mask = ones(STEPS)
    mask[1, 20:] = 0
    _, _, stats = apply(variables, x, positions, mask)
    layers = CONFIG.periods * len(CONFIG.pattern)
    assert stats.chosen.shape == (layers, CONFIG.feed_forward.num_experts)
    np.testing.assert_allclose(stats.tokens, 80.0)
    np.testing.assert_allclose(stats.chosen.sum(-1), 80.0 * CONFIG.feed_forward.top_k)
    np.testing.assert_allclose(stats.probability.sum(-1), 80.0, rtol=1e-5)


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="num_value_heads = 3"):
        GatedDeltaNetConfig(num_key_heads=2, num_value_heads=3)
    with pytest.raises(ValueError, match="top_k = 9"):
        FeedForwardConfig(num_experts=8, top_k=9)
    with pytest.raises(ValueError, match="pattern = "):
        DecoderConfig(pattern=("gdn", "mamba"))
    with pytest.raises(ValueError, match="chunk_size = 12"):
        GatedDeltaNetConfig(chunk_size=12)
    with pytest.raises(ValueError, match=r"mrope_section = \(2, 2, 2\): accepted is .* sum is rotary_dim / 2 = 5"):
        AttentionConfig(head_dim=40, rotary_fraction=0.25, mrope_section=(2, 2, 2))
    with pytest.raises(ValueError, match="num_heads = 3: accepted is a multiple of num_kv_heads = 2"):
        AttentionConfig(num_heads=3, num_kv_heads=2)
    with pytest.raises(ValueError, match="backend = 'gmm': accepted is one of auto, blocked, pallas_tpu, ref"):
        FeedForwardConfig(backend="gmm")
    with pytest.raises(ValueError, match="ragged_headroom = 0"):
        FeedForwardConfig(ragged_headroom=0)
    with pytest.raises(TypeError, match="periods = '2'"):
        DecoderConfig(periods="2")


def test_rows_that_cannot_be_read_are_named(setting):
    _, variables, x, positions = setting
    model = Decoder(CONFIG)
    segments = np.repeat([[0, 1, 0]], 10, axis=1).repeat(ROWS, 0)
    with pytest.raises(ValueError, match="decoder: segment_ids decrease after token 19 of row 0"):
        model.apply(variables, x, positions, ones(STEPS), None, segments)
    with pytest.raises(ValueError, match="no tokens"):
        model.apply(variables, x[:, :0], positions[:, :0])


def test_normalised_or_not_the_chosen_probabilities_weigh_the_experts():
    """Scaled to sum to 1, or as they are; the shared expert may be left out."""
    x, mask = np.random.default_rng(0).standard_normal((1, 5, 8), np.float32), np.ones((1, 5), np.float32)
    config = FeedForwardConfig(hidden_dim=0, num_experts=4, top_k=2, expert_dim=6)
    variables = unbox(jax.jit(MixtureOfExperts(config).init)(jax.random.key(0), x, mask))
    assert set(variables["params"]) == {"gate", "experts_gate_up_proj", "experts_down_proj"}
    scaled, _ = jax.jit(MixtureOfExperts(config).apply)(variables, x, mask)
    unscaled = MixtureOfExperts(dataclasses.replace(config, normalize_top_k=False))
    plain, routing = jax.jit(unscaled.apply)(variables, x, mask)
    assert np.all(routing.weights.sum(-1) < 1)
    np.testing.assert_allclose(plain[0], scaled[0] * routing.weights.sum(-1, keepdims=True), rtol=1e-5, atol=1e-6)
