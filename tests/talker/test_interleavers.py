"""The interleaving schemes: the prefix rule, order, and that generation walks the very layouts that training shows."""

from hypothesis import given
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.config.talker import InterleaverConfig
from qomni_jax.talker.aria import burst_path, expected_path, is_legal, tight_path, timed_path
from qomni_jax.talker.durations import expected_starts, fit_token_durations
from qomni_jax.talker.interleaver import END_OF_SPEECH, NONE, StreamState, TextTimes
from qomni_jax.talker.schemes import make_interleaver

SCHEMES = [
    InterleaverConfig(scheme="aria", aria_paths=("tight",), min_lead=1, inference_lead=1),
    InterleaverConfig(scheme="aria", aria_paths=("random_lead",), min_lead=2, max_lead=4),
    InterleaverConfig(scheme="aria", aria_paths=("bursts", "text_first")),
    InterleaverConfig(scheme="aria", aria_paths=("expected",), min_lead=3),
    InterleaverConfig(scheme="aria", aria_paths=("word_times",)),
    InterleaverConfig(scheme="dual_track"),
    InterleaverConfig(scheme="dual_track", text_delay=2),
    InterleaverConfig(scheme="dual_track", text_stretch=3),
    InterleaverConfig(scheme="dual_track", text_pace="expected"),
    InterleaverConfig(scheme="dual_track", text_pace="expected", text_delay=2),
    InterleaverConfig(scheme="fixed_rate", text_block=1, speech_block=3),
    InterleaverConfig(scheme="fixed_rate", text_block=5, speech_block=15),
]
lengths = st.integers(1, 40)


def name(config: InterleaverConfig) -> str:
    c = config
    return f"{c.scheme}-{'+'.join(c.aria_paths)}-{c.text_pace}-{c.text_delay}-{c.text_stretch}-{c.text_block}"


def random_times(num_text: int, num_frames: int, seed: int) -> TextTimes:
    rng = np.random.default_rng(seed)
    return TextTimes(
        spoken=np.sort(rng.uniform(0, num_frames, num_text)),
        expected=expected_starts(rng.uniform(0.2, 3.0, num_text), num_frames),
    )


@pytest.mark.parametrize("config", SCHEMES, ids=name)
@given(num_text=lengths, num_frames=lengths, seed=st.integers(0, 1000))
def test_each_token_and_frame_comes_once_and_in_order(config, num_text, num_frames, seed):
    times = random_times(num_text, num_frames, seed)
    layout = make_interleaver(config).layout(num_text, num_frames, np.random.default_rng(seed), times)
    assert layout.text[layout.text != NONE].tolist() == list(range(num_text))
    assert layout.frame[layout.frame != NONE].tolist() == list(range(num_frames))
    assert layout.target[layout.target >= 0].tolist() == list(range(num_frames))
    assert layout.text[0] == layout.frame[0] == NONE
    assert (layout.target == END_OF_SPEECH).nonzero()[0].tolist() == [layout.target.size - 1]
    predicted = np.flatnonzero(layout.target >= 0)
    np.testing.assert_array_equal(layout.frame[predicted + 1], layout.target[predicted])


@given(num_text=lengths, num_frames=st.integers(0, 60), lead=st.integers(1, 6), seed=st.integers(0, 1000))
def test_no_aria_prefix_breaks_the_rule(num_text, num_frames, lead, seed):
    assert is_legal(tight_path(num_text, num_frames, lead))
    assert is_legal(burst_path(num_text, num_frames, 1 + seed % 9, np.random.default_rng(seed)))
    assert is_legal(expected_path(random_times(num_text, num_frames, seed).expected, num_frames, lead))
    assert is_legal(np.arange(num_text + num_frames) < num_text)


@given(num_text=lengths, num_frames=lengths)
def test_the_tight_path_speaks_as_soon_as_it_may(num_text, num_frames):
    steps = tight_path(num_text, num_frames)
    for frame_step in np.flatnonzero(~steps):
        if frame_step and steps[frame_step - 1]:
            sooner = steps.copy()
            sooner[[frame_step - 1, frame_step]] = sooner[[frame_step, frame_step - 1]]
            assert not is_legal(sooner)


def test_the_rule_on_a_small_case():
    assert "".join("st"[step] for step in tight_path(3, 7).astype(int)) == "tsstsstsss"
    assert not is_legal(np.array([True, False, False, False, True]))


def test_word_times_put_a_token_at_its_word():
    steps = timed_path(np.array([0.0, 3.0, 9.0]), 10, lead=1)
    assert "".join("st"[step] for step in steps.astype(int)) == "tssstsssssstS".replace("S", "s")


def test_expected_times_give_a_token_early_and_the_rule_sooner_still():
    starts = expected_starts(np.array([3.0, 1.0, 1.0, 1.0]), 12)
    assert starts.tolist() == [0.0, 6.0, 8.0, 10.0]
    paths = ["".join("st"[step] for step in expected_path(starts, 12, lead).astype(int)) for lead in (1, 2)]
    assert paths == ["tssstssstssstsss", "ttsssssstsstssss"]  # with lead 1 the rule comes first


def test_durations_are_found_from_whole_utterances():
    rng = np.random.default_rng(0)
    true = np.array([0.5, 1.5, 1.0, 0.8, 1.2])
    texts = [rng.integers(0, 5, size=rng.integers(2, 7)) for _ in range(400)]
    rates = rng.choice([3.0, 5.0], size=400)
    frames = [round(true[text].sum() * rate) for text, rate in zip(texts, rates, strict=True)]
    fitted = fit_token_durations(texts, frames, rates.tolist(), 7)
    np.testing.assert_allclose(fitted[:5], true, atol=0.03)
    np.testing.assert_allclose(fitted[5:], 1.0)  # never seen


def walk(config: InterleaverConfig, layout, num_text: int, num_frames: int, times: TextTimes) -> None:
    """Follows a layout through `allow` and `rides`: each step it shows must be allowed in generation."""
    interleaver = make_interleaver(config)
    text = frames = since_text = since_frame = 0
    ended = False
    for step in range(layout.target.size):
        state = StreamState(
            *(jnp.array([x]) for x in (text, frames, since_text, since_frame)),
            jnp.array([ended]),
            jnp.array([num_frames / num_text]),
            jnp.asarray(times.expected)[None],
        )
        allowed = interleaver.allow(state)
        if layout.target[step] == END_OF_SPEECH:
            assert bool(allowed.end[0])
            return
        has_text, has_frame = layout.text[step + 1] != NONE, layout.frame[step + 1] != NONE
        assert bool((allowed.speech if has_frame else allowed.text)[0]), f"step {step}"
        if has_frame:
            assert bool(interleaver.rides(state)[0] & ~ended) == bool(has_text)
        text += has_text
        frames += has_frame
        since_text = 0 if has_text else since_text + 1
        since_frame = 0 if has_frame else since_frame + 1
        ended = text == num_text


@pytest.mark.parametrize("config", SCHEMES, ids=name)
@pytest.mark.parametrize(("num_text", "num_frames"), [(1, 1), (1, 9), (4, 30), (6, 19), (13, 90), (12, 14)])
def test_generation_allows_what_training_shows(config, num_text, num_frames):
    if config.scheme == "dual_track" and num_text * config.text_stretch > num_frames:
        pytest.skip("text that outlasts the speech is never reached in generation: a frame takes it along")
    times = random_times(num_text, num_frames, 1)._replace(spoken=np.linspace(0, num_frames, num_text))
    layout = make_interleaver(config).layout(num_text, num_frames, np.random.default_rng(1), times)
    walk(config, layout, num_text, num_frames, times)


def test_aria_bounds_speech_by_the_estimated_rate_until_the_text_ends():
    aria = make_interleaver(InterleaverConfig(inference_lead=1, rate_margin=1.0))

    def allowed(text, frames, ended):
        state = StreamState(
            *(jnp.array([x]) for x in (text, frames, 0, 0)), jnp.array([ended]), jnp.array([4.0]), jnp.zeros((1, 4))
        )
        return [bool(x[0]) for x in aria.allow(state)]

    assert allowed(2, 7, False) == [True, True, False]
    assert allowed(2, 8, False) == [False, True, False]
    assert allowed(2, 8, True) == [True, False, True]


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="scheme = 'triple'"):
        InterleaverConfig(scheme="triple")
    with pytest.raises(ValueError, match="max_lead = 1"):
        InterleaverConfig(min_lead=2, max_lead=1)
    with pytest.raises(TypeError, match=r"text_block = 1\.5"):
        InterleaverConfig(text_block=1.5)
    with pytest.raises(ValueError, match="no word times"):
        make_interleaver(InterleaverConfig(aria_paths=("word_times",))).layout(3, 9, np.random.default_rng(0))
    with pytest.raises(ValueError, match="text_pace = 'brisk'"):
        InterleaverConfig(scheme="dual_track", text_pace="brisk")
    for config in (InterleaverConfig(aria_paths=("expected",)), InterleaverConfig("dual_track", text_pace="expected")):
        with pytest.raises(ValueError, match="no expected times"):
            make_interleaver(config).layout(3, 9, np.random.default_rng(0))
