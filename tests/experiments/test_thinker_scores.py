"""How answers are scored: words against words, times against times, and shares of what was answered right."""

import numpy as np
import pytest

from data_pipelines.conversation_shards.schema import ConversationRecord
from data_pipelines.transcription import Spoken
from experiments.thinker import asr, questions
from qomni_jax.sequence.chat import Text, Turn


def record(text: str, starts: list[float]) -> dict:
    ends = np.cumsum([len(word) + 1 for word in text.split()])
    begins = [0, *ends[:-1]]
    times = np.array(starts, np.float32)
    words = {"char_start": np.array(begins), "char_end": ends - 1, "start_s": times, "end_s": times + 0.4}
    return {"id": text, "text": text, "words": words}


def test_words_are_counted_and_times_compared_where_words_agree():
    records = [record("alpha bravo charlie", [0.1, 0.6, 1.2]), record("delta", [0.3])]
    answers = [Spoken(["alpha", "charlie"], [0.2, 1.5]), Spoken(["delta", "echo"], [float("nan"), 0.5])]
    figures = asr.score(records, answers)
    assert (figures["substitutions"], figures["deletions"], figures["insertions"]) == (0, 1, 1)
    assert figures["wer"]["mean"] == 0.5
    assert figures["timestamps"] == 2  # the word without a time is not one
    assert figures["timestamp_median_error"] == pytest.approx(0.2, abs=1e-3)
    assert "50.0%" in asr.describe("test", figures)


def test_nothing_heard_is_an_error_for_every_word():
    figures = asr.score([record("alpha bravo", [0.0, 0.5])], [Spoken([], [])])
    assert figures["deletions"] == 2
    assert figures["timestamp_median_error"] is None


def question(needs: str, answer: str, seconds: float | None = None) -> ConversationRecord:
    turns = (Turn("user", (Text("?"),)), Turn("assistant", (Text(answer),)))
    asked = [{"needs": needs, "kind": "kind", "seconds": seconds}]
    return ConversationRecord(f"{needs} {answer}", turns, {"questions": asked})


@pytest.mark.parametrize(
    ("record", "answer", "right"),
    [
        (question("image", "red circle"), " red circle", True),
        (question("image", "red circle"), "red", False),
        (question("audio", "<1.2 seconds>", 1.234), "<1.5 seconds>", True),
        (question("audio", "<1.2 seconds>", 1.234), "<1.6 seconds>", False),
        (question("audio", "<1.2 seconds>", 1.234), "1.2", False),
        (question("audio", "<1.2 seconds>", 1.234), "<1.2 seconds> <1.3 seconds>", False),
    ],
)
def test_an_answer_is_right_to_the_letter_or_within_the_tolerance_of_time(record, answer, right):
    assert questions._answered(record, 0, "both", answer).right is right


def test_shares_are_by_what_is_needed_and_what_was_given():
    answered = [questions._answered(question("image", "a"), 0, "audio", "a")]
    for inputs, answer in (("audio", "b"), ("video", "x"), ("both", "b")):
        answered.append(questions._answered(question("audio", "b"), 0, inputs, answer))
    shares = {what: figures["accuracy"]["mean"] for what, figures in questions.accuracies(answered).items()}
    assert shares == {
        "pictures": 1.0,
        "needs audio, given audio": 1.0,
        "needs audio, given video": 0.0,
        "needs audio, given both": 1.0,
        "kind kind": 1.0,
    }


class Words(dict):
    """A recording of words, `{start: (word, end)}`, and what a perfect listener says of a piece of it."""

    def heard(self, start: float, end: float) -> Spoken:
        whole = [(at, word) for at, (word, until) in self.items() if at >= start - 1e-6 and until <= end + 1e-6]
        return Spoken([word for _, word in whole], [round(at - start, 3) for at, _ in whole])


WORDS = Words({0.5 * number: (f"w{number}", 0.5 * number + 0.5) for number in range(20)})


@pytest.mark.parametrize("window", [1.0, 1.3, 3.0, 10.0, 20.0, None])
def test_a_passage_heard_in_pieces_has_every_word_once(window):
    passage, pieces = asr.Passage(10.0, window), 0
    while not passage.done:
        start, end = passage.piece
        assert end - start <= (window or 10.0) + 1e-6
        passage.hear(WORDS.heard(start, end))
        pieces += 1
    assert passage.said.words == [word for word, _ in WORDS.values()]
    np.testing.assert_allclose(passage.said.starts, list(WORDS), atol=1e-6)
    assert (pieces == 1) == (window is None or window >= 10.0)


def test_a_passage_goes_on_where_nothing_is_heard_or_a_word_has_no_time():
    passage = asr.Passage(5.0, 2.0)
    passage.hear(Spoken([], []))
    assert passage.piece == (2.0, 4.0)
    passage.hear(Spoken(["well"], [float("nan")]))
    assert passage.piece == (4.0, 5.0)
    passage.hear(Spoken(["alfa"], [0.5]))
    assert passage.done
    assert passage.said.words == ["well", "alfa"]
    assert passage.said.starts[1] == 4.5


def test_a_word_whose_end_is_heard_again_at_a_seam_is_written_once():
    passage = asr.Passage(4.0, 2.0)
    passage.hear(Spoken(["alfa", "bravo"], [0.0, 1.2]))
    assert passage.piece == (1.2, 3.2)
    passage.hear(Spoken(["alfa", "bravo", "charlie"], [0.0, 0.1, 1.0]))
    passage.hear(Spoken(["charlie", "delta"], [0.0, 0.7]))
    assert passage.said.words == ["alfa", "bravo", "charlie", "delta"]
