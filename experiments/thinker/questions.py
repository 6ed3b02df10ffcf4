"""How many questions about pictures and clips a Thinker answers right, with a clip's sound, its pictures, or both."""

from collections.abc import Sequence
import dataclasses
from typing import Any

from data_pipelines.conversation_shards.schema import ConversationRecord
from data_pipelines.conversations import read_conversation
from data_pipelines.rendered_media.inputs import INPUTS, with_inputs
from experiments.metrics import Interval, bootstrap_mean
from experiments.thinker.answers import Answerer
from experiments.thinker.media import reading_of
from qomni_jax.sequence.chat import Text, Turn
from qomni_jax.sequence.timestamps import parse_timestamps
from qomni_jax.thinker.storage import StoredThinker, Tokenizer

TIME_TOLERANCE = 0.3  # seconds by which a time that is answered may be off
_NEW_TOKENS = 64
_PICTURES = "image"


@dataclasses.dataclass(frozen=True)
class Answered:
    """One question: what it needs, what the model was given, what it answered."""

    id: str
    needs: str
    inputs: str
    kind: str
    expected: str
    answer: str
    right: bool


def answer_all(
    stored: StoredThinker, params: Any, tokenizer: Tokenizer, records: Sequence[ConversationRecord], batch_size: int
) -> list[Answered]:
    """Every question about a picture, and every one about a clip once for each of `INPUTS`."""
    answerer, reading = Answerer(stored, params, tokenizer), reading_of(stored)
    asked = [
        (record, number, inputs)
        for inputs in INPUTS
        for record in records
        for number, question in enumerate(record.metadata["questions"])
        if question["needs"] != _PICTURES or inputs == INPUTS[0]
    ]
    found = []
    for start in range(0, len(asked), batch_size):
        batch = asked[start : start + batch_size]
        examples = [
            read_conversation(with_inputs(_question(record, number), inputs), tokenizer, reading, reply=True)
            for record, number, inputs in batch
        ]
        answers = answerer.answer(examples, _NEW_TOKENS)
        found += [_answered(*item, text) for item, text in zip(batch, answers, strict=True)]
    return found


def accuracies(answered: Sequence[Answered]) -> dict[str, dict[str, Any]]:
    """Share of right answers, with its interval, by what questions need and what was given: `needs audio, given both`;
    and by kind of question where all was given that it needs."""
    found = {}
    for needs in dict.fromkeys(item.needs for item in answered):
        mine = [item for item in answered if item.needs == needs]
        if needs == _PICTURES:
            found["pictures"] = _share(mine)
        else:
            for inputs in INPUTS:
                found[f"needs {needs}, given {inputs}"] = _share([i for i in mine if i.inputs == inputs])
    whole = [item for item in answered if item.needs == _PICTURES or item.inputs == "both"]
    for kind in sorted({item.kind for item in whole}):
        found[f"kind {kind}"] = _share([item for item in whole if item.kind == kind])
    return found


def describe(name: str, figures: dict[str, Any]) -> str:
    """One line for people."""
    share = figures["accuracy"]
    return f"{name:28s} {share['mean']:6.1%} ({share['low']:.1%}-{share['high']:.1%}) of {figures['questions']} right"


def _share(items: Sequence[Answered]) -> dict[str, Any]:
    interval: Interval = bootstrap_mean([float(item.right) for item in items])
    return {"accuracy": dataclasses.asdict(interval), "questions": len(items)}


def _question(record: ConversationRecord, number: int) -> tuple[Turn, ...]:
    """Question `number` asked alone: the media of the first turn, and its own text."""
    media = tuple(part for part in record.turns[0].content if not isinstance(part, Text))
    return (Turn("user", (*media, Text(_text(record.turns[2 * number])))),)


def _text(turn: Turn) -> str:
    return "".join(part.text for part in turn.content if isinstance(part, Text))


def _answered(record: ConversationRecord, number: int, inputs: str, answer: str) -> Answered:
    expected, question = _text(record.turns[2 * number + 1]), record.metadata["questions"][number]
    if question["seconds"] is None:
        right = answer.strip() == expected
    else:
        times = parse_timestamps(answer)
        right = len(times) == 1 and abs(times[0] - question["seconds"]) <= TIME_TOLERANCE
    return Answered(record.id, question["needs"], inputs, question["kind"], expected, answer, right)
