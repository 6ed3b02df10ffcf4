"""What Qwen3-Omni's Talker reads of a conversation: the user's turns and the start of the answer, nothing else."""

import numpy as np
import pytest

from qomni_jax.config.qwen3_omni_talker import CodecTokens, SpeechTokens
from qomni_jax.talker.qwen3_omni_prompt import ADDED_STEPS, talker_prompt

START, END, LINE, SYSTEM, USER, ASSISTANT, PAD, BOS, EOS, SEEN = range(100, 110)
SPEECH = SpeechTokens(START, USER, ASSISTANT, PAD, BOS, EOS)
CODEC = CodecTokens(
    pad=20, bos=21, eos=22, nothink=23, think_bos=24, think_eos=25, speakers=(("chelsie", 26), ("ethan", 27))
)
HEAD = [START, ASSISTANT, LINE]


def turn(role: int, *tokens: int) -> list[int]:
    return [START, role, LINE, *tokens, END, LINE]


def laid_out(tokens: list[int], positions: np.ndarray | None = None):
    ids = np.array(tokens)
    if positions is None:
        positions = np.tile(np.arange(len(ids)), (3, 1))
    return talker_prompt(ids, positions, ids == SEEN, 7, SPEECH, CODEC, CODEC.speaker("Ethan"))


def test_the_head_of_the_answer_names_the_voice_beside_the_first_word():
    prompt = laid_out(turn(USER, 5) + HEAD)
    assert prompt.text.tolist() == [*turn(USER, 5), *HEAD, PAD, PAD, PAD, PAD, BOS, 7]
    assert prompt.codes.tolist() == [-1] * 9 + [23, 24, 25, 27, 20, 21]
    assert len(prompt.text) == len(turn(USER, 5) + HEAD) + ADDED_STEPS
    np.testing.assert_array_equal(prompt.positions, np.tile(np.arange(15), (3, 1)))


def test_system_turns_and_earlier_answers_are_left_out_and_leave_no_gap():
    first, second = turn(USER, 5, SEEN, SEEN, 6), turn(USER, SEEN, 8)
    tokens = [*turn(SYSTEM, 1, 2), *first, *turn(ASSISTANT, 3, 4), *second, *HEAD]
    # Positions of media are not those of text: two ids to the second token, five to the last, height a quarter off.
    where = np.array(tokens) == SEEN
    steps = np.ones(len(tokens), np.float32)
    steps[np.flatnonzero(where)[1:]] = (2, 5)
    times = np.cumsum(steps) - 1
    prompt = laid_out(tokens, np.stack([times, times + where / 4, times]).astype(np.float32))
    assert prompt.text.tolist() == [*first, *second, *HEAD, PAD, PAD, PAD, PAD, BOS, 7]
    assert prompt.places[prompt.places >= 0].tolist() == np.flatnonzero(where).tolist()
    seen = np.flatnonzero(prompt.places >= 0)
    assert seen.tolist() == [4, 5, 12]
    expected = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 17, 18, 19, 20, *range(21, 30)]
    assert prompt.positions[0].tolist() == expected
    np.testing.assert_array_equal(prompt.positions[1] - prompt.positions[0], 0.25 * (prompt.places >= 0))


@pytest.mark.parametrize("tokens", [[], [5, *turn(USER, 5), *HEAD], turn(USER, 5), [*turn(USER, 5), START, USER, LINE]])
def test_what_is_not_turns_and_the_head_of_an_answer_is_named(tokens):
    with pytest.raises(ValueError, match=f"prompt of {len(tokens)} tokens for speech: accepted are whole turns"):
        laid_out(tokens)


def test_voices_go_by_name_in_any_case():
    assert CODEC.speaker("CHELSIE") == 26
    with pytest.raises(ValueError, match="voice 'bob': accepted is one of chelsie, ethan"):
        CODEC.speaker("bob")
