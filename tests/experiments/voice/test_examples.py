"""Training examples of voices: what a prompt may hold, and what it may not."""

import numpy as np
import pytest

from experiments.voice.config import VoicePromptConfig
from experiments.voice.examples import VoiceExamples
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.talker.voice_prompt import DESCRIPTION, REFERENCE, VOICE_TOKENS

FRAME_RATE = 12.5
TOKENIZER = TextTokenizer.train(["alpha bravo charlie delta", "slow fast low high soft loud,"], 330, VOICE_TOKENS)


def record(voice: str, rate: int, pitch: int, level: int, frames: int, text: str = "alpha bravo") -> dict:
    codes = np.full((frames, 2), rate % 7, np.uint16)
    return {"text": text, "voice": voice, "rate_wpm": rate, "pitch": pitch, "level": level, "codes": codes}


def many(count: int = 60, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        record(f"v{index % 3}", *(int(rng.integers(*ends)) for ends in ((110, 271), (20, 81), (-30, -17), (10, 50))))
        for index in range(count)
    ]


def examples(records: list[dict], **options) -> VoiceExamples:
    config = VoicePromptConfig(**options)
    return VoiceExamples(records, TOKENIZER, np.ones(TOKENIZER.vocab_size, np.float32), config, FRAME_RATE)


def test_words_say_what_is_beyond_the_thresholds():
    config = VoicePromptConfig()
    assert config.words((149, 40, -21)) == ("slow", "loud")
    assert config.words((221, 61, -27)) == ("fast", "high", "soft")
    assert config.words((150, 39, -22)) == ("low",)
    assert config.words((200, 50, -24)) == ()


def test_descriptions_are_true_of_what_is_said():
    data = examples(many(), reference_share=0.0, description_share=1.0)
    rng = np.random.default_rng(0)
    seen = set()
    for index, spoken in enumerate(data.records * 3):
        prompt = data.draw(index % 60, rng).prompt
        words = TOKENIZER.decode(prompt.text).replace(",", "").split()
        true = data.config.words((spoken["rate_wpm"], spoken["pitch"], spoken["level"]))
        assert set(words) <= set(true)
        assert bool(words) == bool(true) == (TOKENIZER.special(DESCRIPTION) in prompt.text)
        seen |= set(words)
    assert len(seen) == 6


def test_a_reference_is_of_the_same_voice_and_of_another_utterance():
    data = examples(many())
    rng = np.random.default_rng(0)
    for index in range(60):
        chosen = data.reference_of(index, (), rng)
        assert index not in chosen
        assert len(set(chosen)) == len(chosen)
        assert {data.records[other]["voice"] for other in chosen} == {data.records[index]["voice"]}
        frames = sum(len(data.records[other]["codes"]) for other in chosen)
        assert frames <= 5.0 * FRAME_RATE
        reference = data.reference(chosen)
        np.testing.assert_array_equal(
            reference.codes, np.concatenate([data.records[other]["codes"] for other in chosen])
        )
        assert TOKENIZER.decode(reference.text) == " ".join(["alpha bravo"] * len(chosen))


def test_a_reference_is_like_the_target_in_what_is_not_described():
    near = [record("v", 120, 30, -29, 40), record("v", 122, 31, -28, 40)]
    fast = [record("v", 260, 30, -29, 40)]
    far = [record("v", 120 + 10 * i, 75, -19, 40) for i in range(8)]
    data = examples(near + fast + far, candidates=1)
    rng = np.random.default_rng(0)
    assert data.reference_of(0, (), rng) == [1]
    # Described as slow, the reference may be as fast as it likes: pitch and level decide.
    assert data.reference_of(0, ("slow",), rng) == [2]


def test_prompts_have_references_and_descriptions_as_often_as_asked_and_the_same_again():
    data = examples(many())
    reference, description = TOKENIZER.special(REFERENCE), TOKENIZER.special(DESCRIPTION)
    drawn = [data.draw(index % 60, np.random.default_rng(index)).prompt for index in range(600)]
    again = [data.draw(index % 60, np.random.default_rng(index)).prompt for index in range(20)]
    for ours, theirs in zip(again, drawn, strict=False):
        np.testing.assert_array_equal(ours.text, theirs.text)
        np.testing.assert_array_equal(ours.codes, theirs.codes)
    shares = [np.mean([token in prompt.text for prompt in drawn]) for token in (reference, description)]
    possible = np.mean([bool(data.config.words(tuple(style.tolist()))) for style in data.styles])
    assert shares[0] == pytest.approx(0.75, abs=0.06)  # three standard deviations of 600 draws
    assert shares[1] == pytest.approx(0.6 * possible, abs=0.06)


def test_a_voice_with_one_utterance_and_a_prompt_too_long_are_refused():
    with pytest.raises(ValueError, match="voice 'w' has 1 utterance"):
        examples([*many(), record("w", 150, 50, -20, 20)])
    data = examples(many(), reference_share=1.0, max_steps=8)
    with pytest.raises(ValueError, match="accepted is max_steps, 8, or less"):
        data.draw(0, np.random.default_rng(0))
