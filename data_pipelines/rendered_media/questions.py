"""Questions about pictures and clips with their answers, and what it takes to answer them."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import TypeVar

import numpy as np

from data_pipelines.rendered_media.appearances import Figure, Writing
from data_pipelines.rendered_media.clips import Clip
from qomni_jax.sequence.timestamps import format_timestamp

T = TypeVar("T")

_ORDINALS = ("first", "second", "third", "fourth")
_ROWS = {2: ("top", "bottom"), 3: ("top", "middle", "bottom")}
_COLUMNS = {2: ("left", "right"), 3: ("left", "centre", "right")}
# Seconds by which a spoken word must be clear of a change of pictures for a question about both.
_MARGIN = 0.1


@dataclasses.dataclass(frozen=True)
class Question:
    """A question.

    Attributes:
      kind: its name.
      needs: what it cannot be answered without: `image`; `audio`, `video` or `both` of a clip.
      text: what is asked.
      answer: a word, a few, or a timestamp.
      seconds: the time that the answer is, to the full, if it is one.
    """

    kind: str
    needs: str
    text: str
    answer: str
    seconds: float | None = None


def place_name(rows: int, row: int, column: int) -> str:
    """What a place of a grid of `rows` rows and columns is called."""
    return f"{_ROWS[rows][row]} {_COLUMNS[rows][column]}"


def writing_questions(shown: Writing) -> list[Question]:
    """What is written in a picture, and in which colour."""
    return [
        Question("written", "image", "What is written here?", shown.text),
        Question("colour", "image", "Which colour is it written in?", shown.colour),
    ]


def grid_questions(cells: Mapping[str, Figure]) -> list[Question]:
    """What is where in a picture of shapes at named places, one by one and all together, and where is what occurs
    once."""
    names = [figure.name for figure in cells.values()]
    everything = ", ".join(f"{place} {figure.name}" for place, figure in cells.items())
    asked = [Question("all_places", "image", "What is shown, and where?", everything)]
    asked += [Question("at_place", "image", f"What is at the {place}?", cells[place].name) for place in cells]
    return asked + [
        Question("place_of", "image", f"Where is the {figure.phrase}?", place)
        for place, figure in cells.items()
        if names.count(figure.name) == 1
    ]


def clip_questions(clip: Clip) -> dict[str, list[Question]]:
    """What can be asked about a clip, by what it needs. Nothing may be for `both`; each of the others has some."""
    what = "Which word" if isinstance(clip.shown[0], Writing) else "What"
    once = [word for word in clip.words if clip.said.split().count(word.text) == 1]
    ends = (*clip.since[1:], clip.seconds)
    in_turn = " ".join(f"{format_timestamp(at)} {shown.name}" for shown, at in zip(clip.shown, clip.since, strict=True))
    video = [Question("all_shown", "video", f"{what} is shown, and when?", in_turn)]
    audio, both = [Question("said", "audio", "What is said?", clip.said)], []
    for number, (shown, start, end) in enumerate(zip(clip.shown, clip.since, ends, strict=True)):
        video.append(Question("shown", "video", f"{what} is shown {_ORDINALS[number]}?", shown.name))
        for word in once:
            if start + _MARGIN <= word.start and word.end <= end - _MARGIN:
                text = f"{what} is shown while the word {word.text} is said?"
                both.append(Question("shown_while_said", "both", text, shown.name))
        if number:
            video.append(_when("shown_when", "video", f"When does the {shown.phrase} appear?", start))
            after = min((word for word in clip.words if word.start >= start), key=lambda word: word.start, default=None)
            clear = all(abs(edge - start) > _MARGIN for word in clip.words for edge in (word.start, word.end))
            all_known = len(clip.words) == len(clip.said.split())
            if after in once and clear and all_known:
                text = f"Which word is the first to be said after the {shown.phrase} has appeared?"
                both.append(Question("said_after_shown", "both", text, after.text))
    audio += [_when("said_when", "audio", f"When is the word {word.text} said?", word.start) for word in once]
    return {"video": video, "audio": audio, "both": both}


def draw_questions(
    found: Mapping[str, Sequence[Question]], count: int, rng: np.random.Generator, needs: str | None = None
) -> list[Question]:
    """Up to `count` questions, none twice: what is needed is drawn each time (`needs` at first), then a kind, then one
    of the kind. `found` has them by what they need."""
    left = [question for of_need in found.values() for question in of_need]
    drawn: list[Question] = []
    while left and len(drawn) < count:
        if drawn or needs is None:
            needs = _one_of(sorted({question.needs for question in left}), rng)
        of_need = [question for question in left if question.needs == needs]
        kind = _one_of(sorted({question.kind for question in of_need}), rng)
        drawn.append(_one_of([question for question in of_need if question.kind == kind], rng))
        left.remove(drawn[-1])
    return drawn


def _one_of(choices: Sequence[T], rng: np.random.Generator) -> T:
    return choices[int(rng.integers(len(choices)))]


def _when(kind: str, needs: str, text: str, seconds: float) -> Question:
    return Question(kind, needs, text, format_timestamp(seconds), seconds)
