"""The hybrid decoder: caches, packed rows, router statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.config.decoder import DecoderConfig, FeedForwardConfig, GatedDeltaNetConfig
from qomni_jax.layers.decoder import Decoder, empty_cache
from qomni_jax.sizes import talker_tiny

CONFIG = talker_tiny().decoder


@pytest.fixture(scope="module")
def setting():
    x = jax.random.normal(jax.random.key(0), (2, 30, CONFIG.model_dim))
    positions = jnp.broadcast_to(jnp.arange(30), (2, 30))
    model = Decoder(CONFIG)
    variables = jax.jit(model.init)(jax.random.key(1), x, positions, jnp.ones((2, 30)))
    return jax.jit(model.apply), variables, x, positions


def test_prefill_steps_and_chunk_equal_one_pass(setting):
    apply, variables, x, positions = setting
    whole, _, _ = apply(variables, x, positions, jnp.ones((2, 30)))
    cache = empty_cache(CONFIG, 2, 30)
    outputs = []
    for start, end in [(0, 12), *((t, t + 1) for t in range(12, 18)), (18, 30)]:
        part = slice(start, end)
        out, cache, _ = apply(variables, x[:, part], positions[:, part], jnp.ones((2, end - start)), cache, start)
        outputs.append(out)
    np.testing.assert_allclose(jnp.concatenate(outputs, 1), whole, atol=5e-5)


def test_packed_equals_separate(setting):
    apply, variables, x, _ = setting
    segments = jnp.array([[0] * 9 + [1] * 14 + [2] * 7] * 2)
    positions = jnp.concatenate([jnp.arange(n) for n in (9, 14, 7)])[None].repeat(2, 0)
    packed, _, _ = apply(variables, x, positions, jnp.ones((2, 30)), None, 0, segments)
    # Each segment in a row of its own, padded behind to the longest: what comes later is not seen.
    parts = [slice(0, 9), slice(9, 23), slice(23, 30)]
    rows = [jnp.pad(x[:, part], ((0, 0), (0, 14 - (part.stop - part.start)), (0, 0))) for part in parts]
    separate, _, _ = apply(
        variables, jnp.concatenate(rows), jnp.broadcast_to(jnp.arange(14), (6, 14)), jnp.ones((6, 14))
    )
    for part, alone in zip(parts, jnp.split(separate, 3), strict=True):
        np.testing.assert_allclose(packed[:, part], alone[:, : part.stop - part.start], atol=5e-5)


def test_router_statistics_count_unmasked_tokens_in_every_layer(setting):
    apply, variables, x, positions = setting
    mask = jnp.ones((2, 30)).at[1, 20:].set(0)
    _, _, stats = apply(variables, x, positions, mask)
    layers = CONFIG.periods * len(CONFIG.pattern)
    assert stats.chosen.shape == (layers, CONFIG.feed_forward.num_experts)
    np.testing.assert_allclose(stats.tokens, 50.0)
    np.testing.assert_allclose(stats.chosen.sum(-1), 50.0 * CONFIG.feed_forward.top_k)
    np.testing.assert_allclose(stats.probability.sum(-1), 50.0, rtol=1e-5)


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="num_value_heads = 3"):
        GatedDeltaNetConfig(num_key_heads=2, num_value_heads=3)
    with pytest.raises(ValueError, match="top_k = 9"):
        FeedForwardConfig(num_experts=8, top_k=9)
    with pytest.raises(ValueError, match="pattern = "):
        DecoderConfig(pattern=("gdn", "mamba"))
    with pytest.raises(ValueError, match="chunk_size = 12"):
        GatedDeltaNetConfig(chunk_size=12)
    with pytest.raises(TypeError, match="periods = '2'"):
        DecoderConfig(periods="2")
