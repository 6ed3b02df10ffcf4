"""Vocoder: streaming equals whole recordings, batches equal single items, the future stays out of sight."""

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.codec import Codec
from qomni_jax.codec.istft import synthesis_frames
from qomni_jax.codec.stream import stream_functions
from qomni_jax.codec.vocoder import Vocoder, initial_state
from qomni_jax.config.codec import CodecConfig, VocoderConfig
from qomni_jax.ops.overlap_add import overlap_add
from tests.codec.conftest import TINY

# Chunks of other lengths sum in another order; float32 samples are below 1 in magnitude.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def random_codes(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 16, (frames, 3)).astype(np.uint16)


def streamed(codec, codes):
    stream = codec.stream()
    return np.concatenate([stream.push(frame) for frame in codes] + [stream.finish()])


@settings(max_examples=12, deadline=None)
@given(frames=st.integers(0, 30), seed=st.integers(0, 99))
def test_stream_equals_whole(codec, frames, seed):
    codes = random_codes(frames, seed)
    whole = codec.decode_codes([codes])[0]
    assert whole.shape == (frames * 1280,)
    np.testing.assert_allclose(streamed(codec, codes), whole, **CLOSE)


VOCODE = jax.jit(lambda params, mel, state: Vocoder(TINY.vocoder, 20).apply({"params": params}, mel, state))


@settings(max_examples=10, deadline=None)
@given(chunks=st.lists(st.sampled_from([1, 2, 7]), min_size=1, max_size=8))
def test_any_chunking_of_mel_frames_gives_the_same_samples(codec, chunks):
    params = codec.params["vocoder"]
    mel = np.random.default_rng(0).normal(size=(1, 56, 20)).astype(np.float32)
    whole, _ = VOCODE(params, mel, initial_state(1, TINY.vocoder, 20))
    state, pieces, start = initial_state(1, TINY.vocoder, 20), [], 0
    for length in chunks:
        samples, state = VOCODE(params, mel[:, start : start + length], state)
        pieces.append(samples)
        start += length
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole[:, : start * 160], **CLOSE)


def test_batch_equals_single(codec):
    sequences = [random_codes(frames, frames) for frames in (5, 8, 1, 7, 13, 3)]
    together = codec.decode_codes(sequences)
    for codes, samples in zip(sequences, together, strict=True):
        np.testing.assert_allclose(codec.decode_codes([codes])[0], samples, **CLOSE)


def test_streams_of_a_batch_are_separate(codec):
    init_state, step, flush = stream_functions(TINY)
    codes = np.stack([random_codes(4, 1), random_codes(4, 2)])
    state, pieces = init_state(2), []
    for frame in range(4):
        samples, state = step(codec.params, codes[:, frame], state)
        assert samples.shape == (2, 1280)
        pieces.append(samples)
    pieces.append(flush(codec.params, state))
    samples = np.concatenate(pieces, 1)[:, TINY.vocoder.delay :]
    for row in range(2):
        np.testing.assert_allclose(samples[row], codec.decode_codes([codes[row]])[0], **CLOSE)


@pytest.mark.parametrize("changed", [2, 6])
def test_a_frame_changes_nothing_before_its_delay(codec, changed):
    codes = random_codes(9)
    other = codes.copy()
    other[changed] = (other[changed] + 1) % 16
    first, second = codec.decode_codes([codes, other])
    border = changed * 1280 - TINY.vocoder.delay
    np.testing.assert_array_equal(first[:border], second[:border])
    assert np.abs(first[border : border + 160] - second[border : border + 160]).max() > 0


def test_pushes_hold_back_exactly_the_delay(codec):
    stream = codec.stream()
    assert len(stream.push(random_codes(1)[0])) == 1280 - TINY.vocoder.delay
    assert len(stream.push(random_codes(1)[0])) == 1280
    assert len(stream.finish()) == TINY.vocoder.delay
    with pytest.raises(RuntimeError, match="push on a finished stream"):
        stream.push(random_codes(1)[0])


def test_delays_longer_than_a_frame_stream_too():
    config = CodecConfig(TINY.log_mel, TINY.rvq, VocoderConfig(width=8, num_blocks=1, look_ahead=11))
    codec = Codec.initialise(config)
    codes = random_codes(4)
    whole = codec.decode_codes([codes])[0]
    assert len(whole) == 4 * 1280
    np.testing.assert_allclose(streamed(codec, codes), whole, **CLOSE)


@pytest.mark.parametrize(("window", "hop"), [(640, 160), (320, 160), (96, 16)])
def test_inverse_stft_returns_the_signal(window, hop):
    signal = np.random.default_rng(0).standard_normal(window * 4).astype(np.float32)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = np.stack([signal[s : s + window] * hann for s in range(0, len(signal) - window + 1, hop)])
    windows = synthesis_frames(jnp.fft.rfft(frames), window, hop)
    samples, tail = overlap_add(windows[None], jnp.zeros((1, window - hop)), hop)
    assert tail.shape == (1, window - hop)
    # Squared Hann windows sum to a constant at an overlap of 3/4 and more; at 1/2 they ripple.
    inside = slice(window - hop, len(frames) * hop)
    if window >= 4 * hop:
        np.testing.assert_allclose(samples[0, inside], signal[inside], atol=1e-4)
    else:
        assert np.isfinite(samples).all()


@pytest.mark.parametrize(("field", "value"), [("window_size", 650), ("window_size", 160), ("look_ahead", -1)])
def test_wrong_configs_are_refused(field, value):
    with pytest.raises(ValueError, match=f"VocoderConfig.{field} = {value}: accepted is"):
        VocoderConfig(**{field: value})


def test_a_hop_other_than_the_front_ends_is_refused():
    with pytest.raises(ValueError, match=r"vocoder.hop_size = 128: accepted is log_mel.hop_size = 160"):
        CodecConfig(vocoder=VocoderConfig(window_size=512, hop_size=128))
