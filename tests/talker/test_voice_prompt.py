"""From a clip, its transcript and words of style to a prompt; what is not accepted is refused in one line."""

import numpy as np
import pytest

from qomni_jax.talker.style import OPPOSITES, STYLE_WORDS, parse_style
from qomni_jax.talker.voice_prompt import DESCRIPTION, REFERENCE, SPEECH, make_voice
from tests.talker.voices import stored_talker

AUDIO = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) / 10  # a second: 13 frames


@pytest.fixture(scope="module")
def stored():
    return stored_talker()


def special_tokens(stored, prompt):
    names = {stored.tokenizer.special(name): name for name in (REFERENCE, DESCRIPTION, SPEECH)}
    return [names[index] for index in prompt.text.tolist() if index in names]


def test_a_prompt_holds_what_is_given_and_nothing_else(stored):
    nothing = make_voice(stored)
    described = make_voice(stored, style="slow, soft")
    cloned = make_voice(stored, audio=AUDIO, transcript="alpha")
    both = make_voice(stored, audio=AUDIO, transcript="alpha", style="soft")
    assert special_tokens(stored, nothing.prompt) == [SPEECH]
    assert special_tokens(stored, described.prompt) == [DESCRIPTION, SPEECH]
    assert special_tokens(stored, cloned.prompt) == [REFERENCE, SPEECH]
    assert special_tokens(stored, both.prompt) == [REFERENCE, DESCRIPTION, SPEECH]
    assert len(nothing.prompt) == 1
    codes = stored.codec.encode_audio([AUDIO])[0]
    for prompt in (cloned.prompt, both.prompt):
        np.testing.assert_array_equal(prompt.codes[prompt.has_frame], codes)
        start = int(np.argmax(prompt.has_frame))
        np.testing.assert_array_equal(prompt.text[1:start], stored.tokenizer.encode_text("alpha"))
    assert "slow, soft" in stored.tokenizer.decode(described.prompt.text)


def test_the_pace_is_that_of_the_description_or_of_the_clip(stored):
    speech = stored.speech
    assert make_voice(stored).rate == make_voice(stored, style="loud").rate == speech.usual_rate
    assert make_voice(stored, style="slow").rate == speech.slow_rate
    assert make_voice(stored, audio=AUDIO, transcript="alpha", style="fast").rate == speech.fast_rate
    said = stored.tokenizer.encode("alpha")
    rate = make_voice(stored, audio=AUDIO, transcript="alpha").rate
    assert rate == pytest.approx(13 / stored.durations[said].sum())


def test_integers_and_floats_are_one_recording(stored):
    whole = np.round(AUDIO * 32_768).astype(np.int16)
    ours = make_voice(stored, audio=whole, transcript="alpha").prompt
    theirs = make_voice(stored, audio=whole.astype(np.float32) / 32_768, transcript="alpha").prompt
    np.testing.assert_array_equal(ours.codes, theirs.codes)


def test_style_words_come_in_any_order_and_with_any_separator():
    assert parse_style("") == ()
    assert parse_style("soft slow") == parse_style("soft,slow") == parse_style(["soft", "slow"]) == ("soft", "slow")
    assert parse_style(" slow,  slow ") == ("slow",)
    for pair in OPPOSITES.values():
        with pytest.raises(ValueError, match=f"'{pair[0]}' and '{pair[1]}' together"):
            parse_style(pair)


def test_an_unknown_word_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match="style word 'angry': accepted are") as caught:
        parse_style("slow, angry")
    assert all(word in str(caught.value) for word in STYLE_WORDS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"audio": AUDIO}, "without its transcript"),
        ({"transcript": "alpha"}, "without its recording"),
        ({"audio": AUDIO, "transcript": " "}, "empty transcript"),
        ({"audio": AUDIO[:0], "transcript": "alpha"}, "empty recording"),
        ({"audio": np.tile(AUDIO, 4), "transcript": "alpha"}, r"voice of 4\.0 s .* accepted are at most 40"),
        ({"audio": AUDIO[None], "transcript": "alpha"}, "accepted is one channel"),
    ],
)
def test_a_voice_that_cannot_be_used_is_refused(stored, given, message):
    with pytest.raises(ValueError, match=message) as caught:
        make_voice(stored, **given)
    assert "\n" not in str(caught.value)
