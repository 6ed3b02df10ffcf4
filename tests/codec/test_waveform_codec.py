"""The released ancestors' codecs: a stream in any chunks is the whole, a batch is its items, frames stay in place."""

import dataclasses
import functools
import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.codec import WaveformCodec
from qomni_jax.codec.waveform_model import init_parameters, initial_state
from qomni_jax.codec.waveform_stream import decode_pieces, stream_function
from qomni_jax.config.waveform_codec import (
    CodeEmbeddingConfig,
    ConvStackConfig,
    SplitRVQConfig,
    WaveformCodecConfig,
    WaveformDecoderConfig,
    WaveformEncoderConfig,
    WindowTransformerConfig,
)

FRAMES = 7
FRAME = 12  # samples
# Chunks of other lengths sum in another order; float32 samples of about 1.
CLOSE = {"atol": 1e-5, "rtol": 0.0}


def configs() -> dict[str, WaveformCodecConfig]:
    """Every part, as small as it can be."""
    attention = WindowTransformerConfig(
        model_dim=8, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=4, mlp_dim=12, window=4
    )
    stack = ConvStackConfig(channels=4, rates=(3, 2), dilations=(1, 3))
    rvq = SplitRVQConfig(num_codebooks=3, codebook_size=9, codebook_dim=4, model_dim=8)
    plain = dataclasses.replace(attention, norm="layer", mlp="gelu", final_norm=False)
    elu = dataclasses.replace(stack, residual_kernel_size=3, last_kernel_size=3, compress=2, activation="elu")
    return {
        "code2wav": WaveformCodecConfig(
            CodeEmbeddingConfig(num_codebooks=3, codebook_size=9, model_dim=8),
            WaveformDecoderConfig(attention, stack, upsampling_ratios=(2,), trim="both", clip=False),
        ),
        "tts_12hz": WaveformCodecConfig(
            rvq,
            WaveformDecoderConfig(
                dataclasses.replace(attention, outer_dim=6), stack, pre_conv=3, upsampling_ratios=(2,), clip=False
            ),
        ),
        "mimi": WaveformCodecConfig(
            rvq,
            WaveformDecoderConfig(plain, elu, pre_upsampling=2, clip=False),
            encoder=WaveformEncoderConfig(elu, plain),
        ),
    }


@functools.cache
def codec(name: str) -> WaveformCodec:
    """With parameters that are all random: scales and biases as well, so that nothing is without effect."""
    config, rng = configs()[name], np.random.default_rng(3)
    shapes = jax.eval_shape(lambda: init_parameters(config, jax.random.key(0)))

    def draw(path, leaf):
        value = rng.standard_normal(leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))
        if path[-1].key == "cluster_usage":
            value = 0.5 + value**2
        return (0.3 * value if leaf.ndim == 1 else value).astype(np.float32)

    return WaveformCodec(config, jax.tree_util.tree_map_with_path(draw, shapes))


def random_codes(frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 9, (frames, 3))


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@functools.cache
def whole(name: str) -> np.ndarray:
    return codec(name).decode_codes([random_codes()])[0]


def cut(length: int, borders: list[int]) -> list[slice]:
    """`[0, length)` cut at the borders inside it; pieces may be empty."""
    places = [0, *sorted(min(border, length) for border in borders), length]
    return [slice(*ends) for ends in itertools.pairwise(places)]


@settings(max_examples=8)
@given(name=st.sampled_from(list(configs())), borders=st.lists(st.integers(0, FRAMES), max_size=FRAMES))
def test_any_chunking_of_codes_gives_the_same_samples(name, borders):
    stream = codec(name).decoder_stream()
    pieces = [stream.push(random_codes()[piece]) for piece in cut(FRAMES, borders)]
    np.testing.assert_allclose(np.concatenate(pieces), whole(name), **CLOSE)


@pytest.mark.parametrize("name", list(configs()))
def test_how_many_samples_and_which_of_them_a_frame_changes(name):
    """Code2Wav is late and as much shorter; the others give all samples of a frame at once."""
    late = 8 if name == "code2wav" else 0
    stream, codes = codec(name).decoder_stream(), random_codes()
    lengths = [len(stream.push(frame[None])) for frame in codes]
    assert lengths == [FRAME - late] + [FRAME] * (FRAMES - 1)
    assert whole(name).shape == (FRAMES * FRAME - late,)
    codes[4] = (codes[4] + 1) % 9
    changed = np.abs(codec(name).decode_codes([codes])[0] - whole(name))
    assert not changed[: 4 * FRAME - late].any()
    assert changed[4 * FRAME - late : 5 * FRAME - late].max() > 1e-3


def test_the_released_rates_are_late_by_555_samples():
    stack = ConvStackConfig(channels=96, rates=(8, 5, 4, 3))
    both = dataclasses.replace(configs()["code2wav"].decoder, stack=stack, upsampling_ratios=(2, 2))
    assert (both.samples_per_frame, both.stack_delays) == (1920, (8, 45, 184, 555))
    assert dataclasses.replace(both, trim="right").delay == 0


@pytest.mark.parametrize("name", ["code2wav", "mimi"])
def test_a_stream_is_the_same_after_years(name):
    config, params = codec(name).config, codec(name).params
    codes = random_codes()[None].astype(np.int32)
    _, state = decode_pieces(config, params, codes, initial_state(config, "decode", 1))
    expected, _ = decode_pieces(config, params, codes[:, :2], state)
    state["decoder"]["seen"] = state["decoder"]["seen"] + 2**29
    np.testing.assert_array_equal(decode_pieces(config, params, codes[:, :2], state)[0], expected)


def test_batch_equals_single():
    sequences = [random_codes(frames, frames) for frames in (5, 0, 2, 7)]
    for codes, samples in zip(sequences, codec("code2wav").decode_codes(sequences), strict=True):
        assert samples.shape == (max(0, len(codes) * FRAME - 8),)
        if len(codes):
            np.testing.assert_allclose(codec("code2wav").decode_codes([codes])[0], samples, **CLOSE)


@settings(max_examples=8)
@given(samples=st.integers(1, FRAMES * FRAME), borders=st.lists(st.integers(0, FRAMES * FRAME), max_size=4))
def test_any_chunking_of_samples_gives_the_same_codes(samples, borders):
    audio, mimi = noise(samples), codec("mimi")
    stream = mimi.encoder_stream()
    codes = np.concatenate([stream.push(audio[piece]) for piece in cut(samples, borders)] + [stream.finish()])
    np.testing.assert_array_equal(codes, mimi.encode_audio([audio])[0])
    assert codes.shape == (-(-samples // FRAME), 3)


def test_codes_do_not_depend_on_the_batch():
    """A recording ends where it ends, whatever longer one stands beside it."""
    recordings = [noise(length, length) for length in (77, 12, 0, 1)]
    for audio, codes in zip(recordings, codec("mimi").encode_audio(recordings), strict=True):
        np.testing.assert_array_equal(codec("mimi").encode_audio([audio])[0], codes)


@pytest.mark.parametrize("name", list(configs()))
def test_half_precision_goes_on_in_half_precision(name):
    """What a call keeps has the types that the next one expects."""
    config = dataclasses.replace(codec(name).config, dtype="bfloat16")
    state = initial_state(config, "decode", 1)
    step = stream_function(config, "decode")
    samples, kept = jax.eval_shape(step, codec(name).params, state, random_codes()[None])
    assert samples.dtype == jnp.bfloat16
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), kept) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )


def test_what_is_not_accepted_is_named():
    mimi, decoder = codec("mimi"), codec("code2wav")
    with pytest.raises(ValueError, match=r"codes of shape \(7,\): accepted is \[frames, 3\]"):
        mimi.decode_codes([random_codes()[:, 0]])
    with pytest.raises(ValueError, match="code 9: accepted is 0 to 8"):
        mimi.decoder_stream().push(random_codes() + 1)
    with pytest.raises(ValueError, match="codes of dtype float64: accepted is an integer type"):
        mimi.decode_codes([random_codes() + 0.5])
    with pytest.raises(ValueError, match="encoder = None: accepted is a codec with an encoder"):
        decoder.encode_audio([noise(9)])
    stream = mimi.encoder_stream()
    assert stream.finish().shape == (0, 3)
    with pytest.raises(RuntimeError, match="push on a finished stream"):
        stream.push(noise(3))


def test_configurations_that_do_not_fit_together_are_named():
    mimi, decoder = configs()["mimi"], configs()["code2wav"]
    with pytest.raises(ValueError, match=r"encoder.samples_per_frame = 24: accepted is the decoder's, 12"):
        dataclasses.replace(mimi, encoder=dataclasses.replace(mimi.encoder, downsampling=4))
    with pytest.raises(ValueError, match=r"quantizer .* accepted is a SplitRVQConfig with an encoder"):
        dataclasses.replace(decoder, encoder=mimi.encoder)
    with pytest.raises(ValueError, match="model_dim = 5: accepted without pre_conv is the transformer's width = 8"):
        dataclasses.replace(decoder, quantizer=CodeEmbeddingConfig(3, 9, 5))
    with pytest.raises(ValueError, match="trim = 'left': accepted is one of both, right"):
        dataclasses.replace(decoder.decoder, trim="left")
