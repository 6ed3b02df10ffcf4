"""AuT: as many tokens as the formula says, a clip's tokens whatever the batch, windows that see nothing else."""

import dataclasses
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from qomni_jax.audio.aut import FULL_WINDOW, AudioEncoder, sample_window
from qomni_jax.audio.features import encoder_features
from qomni_jax.audio.stream import AudioEncoderStream, encode_blocks
from qomni_jax.config.audio import AudioEncoderConfig, AudioFeatureConfig
from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.layers.linear import unbox

BLOCKS = EncoderConfig(model_dim=16, num_layers=2, num_heads=2, mlp_dim=24)
# The system's own form: 4 frames a token, 4 tokens a chunk, windows of 2 chunks.
OWN = AudioEncoderConfig(
    encoder=BLOCKS, output_dim=12, num_mels=16, chunk_frames=16, num_convs=2, conv_channels=4, conv_batch=3, window=8
)
# The ancestor's: a chunk is no multiple of the frames of a token.
ANCESTOR = dataclasses.replace(OWN, chunk_frames=20, num_convs=3, window=6, projector="mlp")
FORMS = {"own": OWN, "ancestor": ANCESTOR}
FRAMES = np.array([75, 41, 7, 32], np.int32)


@pytest.fixture(scope="module", params=FORMS)
def setting(request):
    config = FORMS[request.param]
    model = AudioEncoder(config)
    features = np.random.default_rng(0).standard_normal((4, 75, 16), np.float32)
    params = unbox(jax.jit(model.init)(jax.random.key(0), features[:1, :1], np.ones(1, np.int32)))["params"]
    apply = jax.jit(lambda params, *args: model.apply({"params": params}, *args))
    return config, apply, params, features


@given(frames=st.integers(0, 100_000))
def test_tokens_are_counted_chunk_by_chunk(frames):
    """Every convolution takes one frame for two, the last of an odd number included."""
    for config in FORMS.values():
        counted = 0
        for start in range(0, frames, config.chunk_frames):
            part = min(config.chunk_frames, frames - start)
            for _ in range(config.num_convs):
                part = (part + 1) // 2
            counted += part
        assert config.num_tokens(frames) == counted


@settings(max_examples=8)
@given(frames=st.integers(1, 100), more=st.integers(0, 50))
def test_the_output_is_as_long_as_the_formula_says(setting, frames, more):
    config, apply, params, _ = setting
    features = np.zeros((1, frames + more, 16), np.float32)
    tokens, _ = jax.eval_shape(apply, params, features, np.array([frames], np.int32))
    assert tokens.shape == (1, config.num_tokens(frames + more), 12)


def test_released_token_counts():
    released = dataclasses.replace(ANCESTOR, chunk_frames=100, window=104)
    known = {0: 0, 1: 1, 8: 1, 9: 2, 99: 13, 100: 13, 101: 14, 203: 27, 800: 104, 3000: 390}
    assert {frames: released.num_tokens(frames) for frames in known} == known


def test_a_clip_gives_the_same_alone_and_in_any_batch(setting):
    config, apply, params, features = setting
    tokens, lengths = apply(params, features, FRAMES)
    np.testing.assert_array_equal(lengths, config.num_tokens(FRAMES))
    for row in (1, 2):
        frames = FRAMES[row]
        alone, length = apply(params, features[row : row + 1, :frames], FRAMES[row : row + 1])
        assert alone.shape[1] == int(length[0]) == lengths[row]
        # float32 products of other shapes
        np.testing.assert_allclose(tokens[row, : lengths[row]], alone[0], atol=2e-6)
        assert not np.any(tokens[row, lengths[row] :])


def test_a_traced_window_gives_what_a_static_one_gives(setting):
    config, apply, params, features = setting
    tokens, _ = apply(params, features, FRAMES)
    traced, _ = apply(params, features, FRAMES, np.int32(config.window))
    np.testing.assert_allclose(traced, tokens, atol=2e-6)  # as above
    other, _ = apply(params, features, FRAMES, np.int32(FULL_WINDOW))
    assert np.abs(other - tokens)[0].max() > 1e-3
    np.testing.assert_allclose(other[2], tokens[2], atol=2e-6)  # fits in one window anyway


def test_nothing_reaches_over_the_end_of_a_window(setting):
    config, apply, params, features = setting
    changed = features.copy()
    changed[:, config.window_frames :] += 1
    tokens, _ = apply(params, features, FRAMES)
    after, _ = apply(params, changed, FRAMES)
    np.testing.assert_array_equal(after[:, : config.window], tokens[:, : config.window])
    assert np.all(np.abs(after[0, config.window :] - tokens[0, config.window :]).max(-1) > 0)


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 75), max_size=6))
def test_a_stream_gives_what_the_whole_recording_gives(setting, cuts):
    config, apply, params, features = setting
    whole = np.asarray(apply(params, features, FRAMES)[0][0])
    stream = AudioEncoderStream(config, params)
    found = np.zeros((0, 12), np.float32)
    bounds = [0, *sorted(cuts), 75]
    for start, end in itertools.pairwise(bounds):
        found = np.concatenate([found, stream.push(features[0, start:end])])
        # Every complete window is there, and the rest, as it stands, is that of a recording that ends here.
        assert len(found) == end // config.window_frames * config.window
        assert len(found) + len(stream.provisional()) == config.num_tokens(end)
    found = np.concatenate([found, stream.finish()])
    assert found.shape == whole.shape
    np.testing.assert_allclose(found, whole, atol=2e-6)  # as above
    with pytest.raises(RuntimeError, match="push on a finished audio stream"):
        stream.push(features[0])


def test_windows_are_drawn_over_their_range_and_now_and_then_whole():
    keys = jax.random.split(jax.random.key(0), 400)
    config = dataclasses.replace(OWN, training_windows=(3, 6), full_window_rate=0.5)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: sample_window(config, key)))(keys))
    assert set(drawn.tolist()) == {3, 4, 5, 6, FULL_WINDOW}
    assert np.mean(drawn == FULL_WINDOW) == pytest.approx(0.5, abs=0.1)


def test_wrong_values_are_named(setting):
    config, _, params, features = setting
    with pytest.raises(ValueError, match=r"accepted is \[clips, frames, 16\]"):
        AudioEncoder(config).apply({"params": params}, features[..., :8], FRAMES)
    with pytest.raises(ValueError, match=r"features \(4, 75, 16\): accepted is \[n, 16\]"):
        AudioEncoderStream(config, params).push(features)
    with pytest.raises(ValueError, match="window = None"):
        AudioEncoderStream(dataclasses.replace(config, window=None), params)
    with pytest.raises(ValueError, match="window = 7: accepted is None, or a multiple of the 4 tokens of a chunk"):
        dataclasses.replace(OWN, window=7)
    with pytest.raises(ValueError, match="training_windows"):
        dataclasses.replace(OWN, training_windows=(8, 6))
    with pytest.raises(ValueError, match="model_dim = 15"):
        dataclasses.replace(OWN, encoder=dataclasses.replace(BLOCKS, model_dim=15, num_heads=3))
    with pytest.raises(ValueError, match="model_dim = 16: accepted is a multiple of num_heads = 3"):
        dataclasses.replace(BLOCKS, num_heads=3)


def test_a_recording_in_blocks_of_samples_gives_the_tokens_of_the_whole(setting):
    config, apply, params, _ = setting
    features = AudioFeatureConfig(num_mels=16)
    samples = (0.1 * np.random.default_rng(1).standard_normal(12_345)).astype(np.float32)
    whole = encoder_features(samples, features)
    expected, lengths = apply(params, whole[None], np.array([len(whole)], np.int32))
    blocks = np.split(samples, [1, 700, 701, 9000])
    found = np.concatenate(list(encode_blocks(blocks, features, config, params)))
    np.testing.assert_allclose(found, expected[0, : int(lengths[0])], atol=2e-6)  # sums of another number of rows
    with pytest.raises(ValueError, match="floor = 'utterance' of a stream"):
        next(encode_blocks(blocks, dataclasses.replace(features, floor="utterance"), config, params))
