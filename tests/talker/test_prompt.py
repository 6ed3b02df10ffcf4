"""Talker prompts: steps of text and frames, whatever they are joined of, and the utterances that follow them."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np

from qomni_jax.config.talker import InterleaverConfig
from qomni_jax.talker.batch import BatchShape, Utterance, make_batch
from qomni_jax.talker.interleaver import NONE
from qomni_jax.talker.prompt import Prompt, as_prompt
from qomni_jax.talker.schemes import make_interleaver

TEXT = np.array([7, 8, 0], np.int32)
CODES = np.arange(12, dtype=np.int32).reshape(4, 3)


def pieces() -> st.SearchStrategy:
    text = st.lists(st.integers(0, 99), min_size=1, max_size=4).map(lambda ids: Prompt.of_text(ids, 3))
    frames = st.integers(1, 5).map(lambda count: Prompt.of_frames(np.arange(3 * count).reshape(count, 3)))
    return st.lists(text | frames, min_size=1, max_size=4)


def joined(parts: list[Prompt]) -> Prompt:
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


@given(pieces())
def test_joined_prompts_keep_every_step_in_its_order(parts):
    prompt = joined(parts)
    assert len(prompt) == sum(map(len, parts))
    np.testing.assert_array_equal(prompt.text, np.concatenate([part.text for part in parts]))
    np.testing.assert_array_equal(prompt.codes, np.concatenate([part.codes for part in parts]))
    np.testing.assert_array_equal(prompt.has_frame, prompt.text < 0)  # a step is one or the other


def test_ids_alone_are_a_prompt_of_text():
    prompt = as_prompt(np.array([3, 4]), 2)
    assert prompt.text.tolist() == [3, 4]
    assert not prompt.has_frame.any()
    assert as_prompt(prompt, 2) is prompt


@given(pieces(), st.sampled_from(["aria", "dual_track", "fixed_rate"]))
def test_an_utterance_follows_its_prompt_as_it_does_any_other(parts, scheme):
    """What comes after the prompt, and what is asked for there, is the same for every prompt; all of it is seen."""
    interleaver = make_interleaver(InterleaverConfig(scheme=scheme, aria_paths=("tight",)))
    shape = BatchShape(1, 64, 3, 32, 4)
    prompt = joined(parts)

    def batch_of(prompt):
        rng = np.random.default_rng(0)
        return make_batch([Utterance(prompt, TEXT, CODES)], interleaver, shape, rng, frame_dropout=0.5)

    ours, plain = batch_of(prompt), batch_of(np.array([1]))
    before, size = len(prompt) - 1, int(plain["mask"].sum())
    assert int(ours["mask"].sum()) == before + size
    np.testing.assert_array_equal(ours["text"][0, : len(prompt)], prompt.text)
    np.testing.assert_array_equal(ours["frame"][0, : len(prompt)], prompt.has_frame)  # 1, never hidden
    np.testing.assert_array_equal(ours["codes"][0, : len(prompt)][prompt.has_frame], prompt.codes[prompt.has_frame])
    assert (ours["target"][0, :before] == NONE).all()
    for name in ("text", "frame", "codes"):
        np.testing.assert_array_equal(ours[name][0, len(prompt) : before + size], plain[name][0, 1:size])
    np.testing.assert_array_equal(ours["target"][0, before : before + size], plain["target"][0, :size])
    np.testing.assert_array_equal(ours["residual_step"], plain["residual_step"] + before)
