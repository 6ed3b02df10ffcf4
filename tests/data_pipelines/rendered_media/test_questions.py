"""Answers follow from the clip, and from no less of it than a question says."""

import re

import pytest

from data_pipelines.rendered_media.appearances import Figure, Writing
from data_pipelines.rendered_media.clips import Clip, SpokenWord
from data_pipelines.rendered_media.questions import clip_questions, grid_questions, place_name

RED, BLUE = Figure("red", "circle"), Figure("blue", "star")


def clip(shown=(RED, BLUE), since=(0, 2), said="echo kilo echo", times=((0.3, 0.8), (0.9, 1.5), (2.4, 2.9))):
    words = tuple(SpokenWord(text, *span) for text, span in zip(said.split(), times, strict=True))
    return Clip(4, shown, since, said, words)


def asked(clip):
    return {question.text: question for of_need in clip_questions(clip).values() for question in of_need}


def test_what_is_shown_said_and_when():
    questions = asked(clip())
    assert {text: question.answer for text, question in questions.items()} == {
        "What is shown, and when?": "<0.0 seconds> red circle <2.0 seconds> blue star",
        "What is shown first?": "red circle",
        "What is shown second?": "blue star",
        "When does the blue star appear?": "<2.0 seconds>",
        "What is said?": "echo kilo echo",
        "When is the word kilo said?": "<0.9 seconds>",  # echo is said twice
        "What is shown while the word kilo is said?": "red circle",
    }
    assert questions["When is the word kilo said?"].seconds == 0.9
    needs = {need: {question.needs for question in found} for need, found in clip_questions(clip()).items()}
    assert needs == {"video": {"video"}, "audio": {"audio"}, "both": {"both"}}


def test_the_first_word_after_a_change():
    question = asked(clip(said="echo kilo lima"))[
        "Which word is the first to be said after the blue star has appeared?"
    ]
    assert (question.answer, question.needs) == ("lima", "both")


@pytest.mark.parametrize("times", [((0.3, 0.8), (0.9, 1.95), (2.4, 2.9)), ((0.3, 0.8), (1.5, 1.8), (2.05, 2.9))])
def test_a_word_at_a_change_is_not_asked_about(times):
    assert not any("after" in text for text in asked(clip(said="echo kilo lima", times=times)))


def test_a_word_across_a_change_is_not_said_while_either_is_shown():
    questions = asked(clip(said="echo kilo lima", times=((0.3, 0.8), (1.5, 2.3), (2.5, 2.9))))
    assert not any("while the word kilo" in text for text in questions)


def test_words_that_are_shown_are_told_from_words_that_are_said():
    questions = asked(clip(shown=(Writing("red", "kilo"), Writing("blue", "golf"))))
    assert questions["Which word is shown first?"].answer == "kilo"
    assert "When does the word golf appear?" in questions
    assert questions["Which word is shown while the word kilo is said?"].answer == "kilo"


def test_places_of_a_grid():
    assert [place_name(2, row, column) for row in range(2) for column in range(2)] == [
        "top left",
        "top right",
        "bottom left",
        "bottom right",
    ]
    assert place_name(3, 1, 1) == "middle centre"
    questions = grid_questions({"top left": RED, "top right": RED, "bottom left": BLUE})
    assert {question.text: question.answer for question in questions} == {
        "What is shown, and where?": "top left red circle, top right red circle, bottom left blue star",
        "What is at the top left?": "red circle",
        "What is at the top right?": "red circle",
        "What is at the bottom left?": "blue star",
        "Where is the blue star?": "bottom left",
    }


def test_names_in_answers_are_plain_words():
    assert all(re.fullmatch(r"[a-z<>. 0-9]+", question.answer) for question in asked(clip()).values())
