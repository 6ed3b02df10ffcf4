"""The judge hears clean synthetic speech, survives what a bad Talker may give it, and needs no jax in its workers."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.speech_corpus.espeak import Synthesizer
from data_pipelines.speech_corpus.grammar import NATO_WORDS
from experiments.judge import JudgeItem, describe, judge
from experiments.metrics import word_error_rate
from experiments.recogniser import DEFAULTS, SAMPLE_RATE, Recogniser, grammar


def say(text: str, voice: str = "en-us+klatt6", rate_wpm: int = 170) -> np.ndarray:
    """Clean speech, float32 [n] at 16 kHz."""
    return Synthesizer.shared().speak(text, voice, rate_wpm).audio.astype(np.float32) / 32768


@pytest.fixture(scope="module")
def spoken() -> list[JudgeItem]:
    """Forty sentences of three to six words, two voices, four rates."""
    rng = np.random.default_rng(7)
    items = []
    for index in range(40):
        text = " ".join(rng.choice(NATO_WORDS, rng.integers(3, 7)))
        audio = say(text, ("en-us+klatt6", "en-us+adam")[index % 2], (120, 160, 200, 240)[index // 2 % 4])
        items.append(JudgeItem(f"clean-{index}", audio, text))
    return items


def test_clean_speech_is_heard_with_few_errors(spoken):
    # The study rests on this: errors of a Talker must stand out against the judge's own.
    assert word_error_rate(judge(spoken, workers=2)) < 0.03


def test_neither_company_nor_the_number_of_workers_changes_a_judgement(spoken):
    together = judge(spoken[:7], workers=3)
    assert [judgement.id for judgement in together] == [item.id for item in spoken[:7]]
    assert judge(spoken[4:5], workers=1) == together[4:5]


def test_words_are_timed_from_the_start_of_the_audio():
    speech = Synthesizer.shared().speak("alpha bravo charlie delta", "en-us+klatt6", 150)
    item = JudgeItem("timed", speech.audio.astype(np.float32) / 32768, "alpha bravo charlie delta")
    heard = judge([item], workers=1)[0].heard
    assert [word.word for word in heard] == ["alpha", "bravo", "charlie", "delta"]
    # The recogniser's word borders are 17 ms from the true ones in standard deviation: 80 ms is over four of those.
    np.testing.assert_allclose([word.start for word in heard], speech.words.start_s, atol=0.08)
    assert all(word.start < word.end <= speech.seconds for word in heard)


def test_empty_silent_and_very_short_audio_are_deletions():
    silences = [np.zeros(0, np.float32), np.zeros(16_000, np.float32), np.full(80, 1e-6, np.float32)]
    for judgement in judge([JudgeItem(str(n), audio, "alpha bravo") for n, audio in enumerate(silences)], workers=2):
        assert (judgement.hypothesis, judgement.deletions, judgement.insertions) == ("", 2, 0)
        assert (judgement.words, judgement.substitutions, judgement.repeats) == (2, 0, 0)


def test_errors_are_counted_by_kind():
    said = say("alpha bravo alpha bravo hotel")
    repeated, wrong, longer = judge(
        [
            JudgeItem("repeated", said, "alpha bravo hotel"),
            JudgeItem("wrong", said, "alpha bravo alpha bravo golf"),
            JudgeItem("longer", said, "alpha bravo alpha bravo hotel kilo"),
        ],
        workers=1,
    )
    assert (repeated.insertions, repeated.repeats, repeated.words) == (2, 2, 3)
    assert (wrong.substitutions, wrong.repeats) == (1, 0)
    assert (longer.deletions, longer.words) == (1, 6)


def test_loudness_does_not_matter(spoken):
    quiet = dataclasses.replace(spoken[0], audio=spoken[0].audio * 0.01)
    assert judge([quiet], workers=1)[0].hypothesis == judge(spoken[:1], workers=1)[0].hypothesis


def test_another_vocabulary_can_be_heard():
    item = JudgeItem("digits", say("three seven nine"), "three seven nine")
    assert judge([item], ["three", "seven", "nine", "zero"], workers=1)[0].hypothesis == "three seven nine"


def test_no_items_give_no_judgements():
    assert judge([], NATO_WORDS) == []


@pytest.mark.parametrize(
    ("audio", "reference", "vocabulary", "message"),
    [
        (np.zeros(9, np.int16), "alpha", NATO_WORDS, r"item 'x': audio is int16 \[9\]; accepted: float \[n\] at 16000"),
        (np.zeros((2, 9), np.float32), "alpha", NATO_WORDS, r"audio is float32 \[2, 9\]"),
        (np.full(9, np.nan, np.float32), "alpha", NATO_WORDS, "audio holds NaN or infinity"),
        (np.zeros(9, np.float32), " ", NATO_WORDS, "item 'x': the reference is empty"),
        (np.zeros(9, np.float32), "alpha zebra", NATO_WORDS, "reference word 'zebra' cannot be heard; accepted: alpha"),
        (np.zeros(9, np.float32), "qwzzk", ["qwzzk"], "word 'qwzzk' is not in the recogniser's dictionary; accepted"),
    ],
)
def test_wrong_input_is_refused_by_name(audio, reference, vocabulary, message):
    with pytest.raises(ValueError, match=message) as caught:
        judge([JudgeItem("x", audio, reference)], vocabulary, workers=1)
    assert "\n" not in str(caught.value)


def test_workers_are_counted():
    with pytest.raises(ValueError, match="workers=0; accepted: 1 or more"):
        judge([], NATO_WORDS, workers=0)


def test_a_worker_imports_no_jax(monkeypatch, tmp_path):
    # A package of that name that cannot be imported goes before the real one, in the worker's path only.
    (tmp_path / "jax.py").write_text("raise ImportError('a worker of the judge imported jax')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert judge([JudgeItem("x", say("kilo lima"), "kilo lima")], NATO_WORDS, workers=1)[0].hypothesis == "kilo lima"


def test_the_report_can_say_what_the_judge_is():
    described = describe(NATO_WORDS)
    assert described["name"].startswith("pocketsphinx 5.")
    assert described["settings"] == {
        "word_insertion_penalty": 0.05,
        "padding_seconds": 0.3,
        "noise": 1e-4,
        "peak": 0.6,
    }
    assert "26 words: alpha bravo" in described["grammar"]


def test_grammar_takes_any_sequence_of_the_words():
    assert "( alpha | x-ray )*" in grammar(["alpha", "x-ray"])
    assert Recogniser(["alpha", "x-ray"], DEFAULTS).hear(np.zeros(SAMPLE_RATE, np.float32)) == []
