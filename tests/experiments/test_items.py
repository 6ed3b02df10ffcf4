"""What the report reads of a judged sentence: text-to-voice lag, early stops and runaways."""

import numpy as np
import pytest
import soundfile

from experiments.judge import HeardWord, Judgement
from experiments.study.items import judged_item, text_to_voice_lag, write_wav

FRAME = 0.08  # seconds


def heard(*words: tuple[str, float]) -> list[HeardWord]:
    return [HeardWord(word, start, start + 0.3) for word, start in words]


def test_lag_is_from_the_last_token_of_a_word_to_its_voice():
    # alpha is two tokens, bravo one, then end-of-text; they come after 0, 2, 3 and 3 frames.
    lag = text_to_voice_lag(heard(("alpha", 0.1), ("bravo", 0.55)), "alpha bravo", [0, 0, 1], "tsststtss", FRAME)
    assert lag == [(0.1, -0.06), (0.55, 0.31)]


def test_a_token_that_rides_with_a_frame_comes_when_the_frame_does():
    lag = text_to_voice_lag(heard(("alpha", 0.1), ("bravo", 0.5)), "alpha bravo", [0, 1], "bbbs", FRAME)
    assert lag == [(0.1, 0.1), (0.5, 0.42)]


def test_words_not_said_as_written_have_no_lag():
    words = heard(("alpha", 0.0), ("kilo", 0.4), ("delta", 0.8))
    lag = text_to_voice_lag(words, "alpha bravo charlie delta", [0, 1, 2, 3], "tttttssss", FRAME)
    assert lag == [(0.0, 0.0), (0.8, 0.8)]


def test_a_word_whose_text_never_came_has_no_lag():
    words = heard(("alpha", 0.2), ("bravo", 0.6))
    assert text_to_voice_lag(words, "alpha bravo", [0, 1], "tsss", FRAME) == [(0.2, 0.2)]
    assert text_to_voice_lag([], "alpha bravo", [0, 1], "tts", FRAME) == []


def judgement(hypothesis: str, deletions: int = 0, substitutions: int = 0, insertions: int = 0) -> Judgement:
    return Judgement("a-1", "alpha bravo charlie", hypothesis, (), 3, substitutions, deletions, insertions, 0)


@pytest.mark.parametrize(
    ("said", "ended", "early_stop", "runaway"),
    [
        (judgement("alpha bravo charlie"), True, False, False),
        (judgement("alpha bravo", deletions=1), True, True, False),
        (judgement("", deletions=3), True, True, False),
        (judgement("alpha charlie", deletions=1), True, False, False),  # a word is missing, the end is not
        (judgement("alpha bravo kilo", substitutions=1), True, False, False),  # the last word is wrong, not missing
        (judgement("alpha bravo", deletions=1), False, False, True),  # what was stopped did not stop early
        (judgement("alpha bravo charlie kilo", insertions=1), False, False, True),
    ],
)
def test_early_stops_and_runaways(said, ended, early_stop, runaway):
    item = judged_item(said, seconds=1.0, reference_seconds=1.2, ended=ended)
    assert (item["early_stop"], item["runaway"]) == (early_stop, runaway)


def test_an_item_keeps_what_it_was_given():
    lag = [(0.1, 0.2)]
    item = judged_item(
        judgement("alpha", deletions=2), seconds=1, reference_seconds=2, wav="a.wav", steps="ts", lag=lag
    )
    assert {name: item[name] for name in ("id", "words", "deletions", "seconds", "wav", "interleaving", "lag")} == {
        "id": "a-1",
        "words": 3,
        "deletions": 2,
        "seconds": 1,
        "wav": "a.wav",
        "interleaving": "ts",
        "lag": [[0.1, 0.2]],
    }


def test_audio_is_written_as_16_bits_and_clipped(tmp_path):
    path = tmp_path / "new" / "a.wav"
    write_wav(path, np.array([0.0, 0.5, -0.5, 2.0], np.float32), 16_000)
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 16_000
    np.testing.assert_allclose(samples, [0, 16_384, -16_384, 32_767], atol=1)  # one step of 16 bits
