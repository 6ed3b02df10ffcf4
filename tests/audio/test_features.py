"""The encoders' log-mel: the released extractor's values, the same in numpy, in jax, as a stream and in any batch."""

import dataclasses
import pathlib
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import librosa
import numpy as np
import pytest
from safetensors.numpy import load_file

from qomni_jax.audio.features import (
    FeatureStream,
    encoder_features,
    encoder_features_jax,
    feature_blocks,
    reflect,
)
from qomni_jax.config.audio import AudioFeatureConfig

CONFIG = AudioFeatureConfig()
UTTERANCE = AudioFeatureConfig(floor="utterance")
GOLDEN = pathlib.Path(__file__).parent.parent / "goldens" / "feat_whisper128" / "golden.safetensors"

# The same float32 sums in another order; the logarithm magnifies what that changes in quiet bins next to loud ones.
SAME = 2e-5


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def in_float64(audio: np.ndarray, mel_filters: np.ndarray) -> np.ndarray:
    """The released formula in double precision, with nothing of ours but the filters."""
    padded = np.pad(audio.astype(np.float64), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(400) / 400)
    spectrum = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, 400)[::160] * window)
    features = np.log10(np.maximum((np.abs(spectrum) ** 2 @ mel_filters)[:-1], 1e-10))
    return (np.maximum(features, features.max() - 8.0) + 4.0) / 4.0


def test_features_equal_the_released_extractor():
    golden = load_file(GOLDEN)
    whole = encoder_features(golden["wav0"], UTTERANCE)
    # The extractor's float32 transform is itself 3.8e-5 from double precision in the quietest bins.
    np.testing.assert_allclose(whole, golden["input_features"][0].T, rtol=0, atol=5e-5)
    # 9000 samples: the window of the last frame, 55, ends with sample 8999, so the batch's padding touches no frame.
    alone = encoder_features(golden["wav1"], UTTERANCE)
    assert alone.shape == (56, 128)
    np.testing.assert_allclose(alone, golden["input_features"][1].T[:56], rtol=0, atol=5e-5)


def test_features_equal_double_precision():
    audio = load_file(GOLDEN)["wav0"]
    filters = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=128, dtype=np.float64).T
    # A float32 transform of 400 samples, 8 decades of power below its largest value.
    np.testing.assert_allclose(encoder_features(audio, UTTERANCE), in_float64(audio, filters), rtol=0, atol=3e-5)


@pytest.mark.parametrize("samples", [16_000, 16_039, 16_159])
def test_features_equal_librosa(samples):
    audio = noise(samples)
    mel = librosa.feature.melspectrogram(
        y=audio, sr=16_000, n_fft=400, hop_length=160, n_mels=128, center=True, pad_mode="reflect", power=2.0
    )
    expected = (np.maximum(np.log10(np.maximum(mel[:, :100].T, 1e-10)), -7.0) + 4.0) / 4.0
    np.testing.assert_allclose(encoder_features(audio, CONFIG), expected, rtol=0, atol=SAME)


@pytest.mark.parametrize("config", [CONFIG, UTTERANCE])
@pytest.mark.parametrize("samples", [0, 1000, 50_000, 160_000])
def test_threads_change_nothing(config, samples):
    alone = encoder_features(noise(samples), config)
    for threads in (2, 3):
        np.testing.assert_array_equal(encoder_features(noise(samples), config, threads=threads), alone)


@pytest.mark.parametrize("config", [CONFIG, UTTERANCE])
@pytest.mark.parametrize("samples", [0, 159, 160, 199, 200, 201, 8000])
def test_jax_equals_numpy(config, samples):
    audio = noise(samples)
    ours = np.asarray(jax.jit(encoder_features_jax, static_argnums=1)(audio, config))
    assert ours.shape == (samples // 160, 128)
    np.testing.assert_allclose(ours, encoder_features(audio, config), rtol=0, atol=SAME)


@pytest.mark.parametrize("config", [CONFIG, UTTERANCE])
def test_a_recording_in_a_batch_has_its_features_alone(config):
    lengths = np.array([8000, 4823, 170, 100])
    # Loud padding: neither the reflection nor the floor may look at it.
    batch = 10.0 * noise(4 * 8000, seed=1).reshape(4, 8000)
    for row, length in enumerate(lengths):
        batch[row, :length] = noise(length, seed=row + 2)
    ours = np.asarray(jax.jit(encoder_features_jax, static_argnums=1)(batch, config, lengths))
    for row, length in enumerate(lengths):
        frames = length // 160
        np.testing.assert_allclose(ours[row, :frames], encoder_features(batch[row, :length], config), rtol=0, atol=SAME)
        assert not ours[row, frames:].any()


@pytest.mark.parametrize("config", [CONFIG, UTTERANCE])
@pytest.mark.parametrize("audio", [np.zeros(1600, np.float32), noise(1600)])
def test_gradient_is_finite(config, audio):
    gradient = jax.grad(lambda audio: (encoder_features_jax(audio, config) ** 2).sum())(audio)
    assert np.isfinite(gradient).all()
    assert gradient.any() == audio.any()


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(0, 3000), cuts=st.lists(st.integers(0, 3000), max_size=8))
def test_a_stream_in_any_chunks_gives_the_frames_of_the_whole(samples, cuts):
    audio = noise(samples)
    stream = FeatureStream(CONFIG)
    frames = [stream.push(chunk) for chunk in np.split(audio, sorted(min(cut, samples) for cut in cuts))]
    frames.append(stream.finish())
    streamed = np.concatenate(frames)
    assert streamed.shape == (samples // 160, 128)
    np.testing.assert_allclose(streamed, encoder_features(audio, CONFIG), rtol=0, atol=SAME)


@pytest.mark.parametrize("config", [CONFIG, UTTERANCE])
def test_blocks_of_a_recording_that_can_be_read_again_give_the_frames_of_the_whole(config):
    audio = noise(3000)
    audio[:1000] *= 1e-5  # below the utterance floor that the rest sets
    found = np.concatenate(list(feature_blocks(lambda: np.split(audio, [1, 700, 2500]), config)))
    np.testing.assert_allclose(found, encoder_features(audio, config), rtol=0, atol=SAME)
    assert not len(np.concatenate(list(feature_blocks(list, config))))


def test_a_stream_hands_out_each_frame_40_samples_after_its_hop():
    stream = FeatureStream(CONFIG)
    counts = np.cumsum([len(stream.push(sample)) for sample in np.split(noise(700), 700)])
    assert list(np.flatnonzero(np.diff(counts, prepend=0)) + 1) == [201, 360, 520, 680]


def test_a_stream_holds_no_more_than_a_window():
    stream = FeatureStream(CONFIG)
    stream.push(noise(100_000))
    stream.push(noise(0))
    assert len(stream._held) < 400 + 160


def test_a_stream_refuses_a_floor_that_needs_the_future():
    with pytest.raises(ValueError, match="'utterance' of a stream: accepted is 'fixed'"):
        FeatureStream(UTTERANCE)


def test_a_finished_stream_takes_no_more():
    stream = FeatureStream(CONFIG)
    stream.finish()
    for action in (stream.finish, lambda: stream.push(noise(10))):
        with pytest.raises(RuntimeError, match="accepted is a new FeatureStream"):
            action()


@pytest.mark.parametrize("samples", [160, 180, 200])
def test_tiny_recordings_are_reflected_back_and_forth(samples):
    audio = noise(samples)
    filters = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=128, dtype=np.float64).T
    expected = in_float64(audio, filters)[:1]
    np.testing.assert_allclose(encoder_features(audio, UTTERANCE), expected, rtol=0, atol=3e-5)


def test_less_than_a_hop_has_no_frame():
    for samples in (0, 1, 159):
        assert encoder_features(noise(samples), CONFIG).shape == (0, 128)
        assert encoder_features(noise(samples), UTTERANCE).shape == (0, 128)


@given(samples=st.integers(1, 40), before=st.integers(0, 90), after=st.integers(0, 90))
def test_reflection_equals_numpy(samples, before, after):
    positions = np.arange(-before, samples + after)
    np.testing.assert_array_equal(
        reflect(positions, samples), np.pad(np.arange(samples), (before, after), mode="reflect")
    )


def test_floors():
    quiet = np.concatenate([noise(16_000), np.zeros(16_000, np.float32)])
    np.testing.assert_allclose(encoder_features(quiet, CONFIG).min(), (-7.0 + 4.0) / 4.0)
    utterance = encoder_features(quiet, UTTERANCE)
    np.testing.assert_allclose(utterance.max() - utterance.min(), 2.0, rtol=1e-6)
    silence = np.zeros(1600, np.float32)
    np.testing.assert_allclose(encoder_features(silence, UTTERANCE), (-10.0 + 4.0) / 4.0, rtol=1e-6)


def test_a_recording_starts_as_its_beginning_does():
    audio = noise(160 * 700)
    np.testing.assert_allclose(
        encoder_features(audio, CONFIG)[:398], encoder_features(audio[: 160 * 400], CONFIG)[:398], rtol=0, atol=SAME
    )


def test_memory_is_bounded_by_the_result():
    audio = noise(16_000 * 60)
    encoder_features(audio[:16_000], CONFIG)
    tracemalloc.start()
    features = encoder_features(audio, CONFIG)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Windows, spectra and powers of one block of 256 frames, beside the waveform's float32 copy and the result.
    assert peak < features.nbytes + audio.nbytes + 3_000_000


@pytest.mark.parametrize(
    ("field", "value"),
    [("floor", "batch"), ("window_size", 401), ("hop_size", 401), ("hop_size", 81), ("hop_size", 0), ("num_mels", 0)],
)
def test_wrong_configs_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} = .*accepted is"):
        dataclasses.replace(CONFIG, **{field: value})
