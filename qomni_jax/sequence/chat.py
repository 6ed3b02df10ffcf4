"""Conversations in ChatML: turns of text, media and tool calls, as words and special tokens with their loss weights."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import json
from typing import Any

from qomni_jax.sequence.elements import Mark, Words
from qomni_jax.sequence.special_tokens import (
    IM_END,
    IM_START,
    TOOL_CALL,
    TOOL_CALL_END,
    TOOL_RESPONSE,
    TOOL_RESPONSE_END,
)

ROLES = ("system", "user", "assistant", "tool")


@dataclasses.dataclass(frozen=True)
class Text:
    """A piece of text."""

    text: str


@dataclasses.dataclass(frozen=True)
class Image:
    """A still image; `source` is whatever the reader of media takes."""

    source: Any = None


@dataclasses.dataclass(frozen=True)
class Audio:
    """A recording."""

    source: Any = None


@dataclasses.dataclass(frozen=True)
class Video:
    """A video, with `sound` together with its own audio track, merged by time."""

    source: Any = None
    sound: bool = False


Media = Image | Audio | Video
Part = Text | Media


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """A function that the assistant asks for."""

    name: str
    arguments: Mapping[str, Any]

    def to_json(self) -> str:
        """One line of JSON, in which a closing tag cannot occur."""
        line = json.dumps({"name": self.name, "arguments": dict(self.arguments)}, ensure_ascii=False)
        return line.replace(TOOL_CALL_END, TOOL_CALL_END.replace("/", "\\/"))


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn: `role` is system, user, assistant or tool (what a tool has answered).

    An assistant's turn holds text alone, and after it tool calls. Raises ValueError or TypeError otherwise.
    """

    role: str
    content: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"Turn.role = {self.role!r}: accepted is one of {', '.join(ROLES)}")
        accepted = Text if self.role == "assistant" else Part
        for number, part in enumerate(self.content):
            if not isinstance(part, accepted):
                names = "Text" if accepted is Text else "Text, Image, Audio or Video"
                raise TypeError(f"Turn.content[{number}] = {part!r}: accepted in the role {self.role} is {names}")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"Turn.tool_calls in the role {self.role}: accepted is the role assistant")


def media_of(conversation: Sequence[Turn]) -> list[Media]:
    """The media items of a conversation in order."""
    return [part for turn in conversation for part in turn.content if not isinstance(part, Text)]


def render(conversation: Sequence[Turn], *, reply: bool = False) -> Iterator[Words | Mark | Media]:
    """ChatML of a conversation, as in the chat template of Qwen3; with `reply`, the head of an assistant's turn last.

    What the assistant writes and the `<|im_end|>` of its turns have weight 1, all else 0. Consecutive tool turns are
    one user turn.
    """
    for is_tool, group in itertools.groupby(conversation, lambda turn: turn.role == "tool"):
        if is_tool:
            yield from _turn("user", _tool_responses(list(group)))
            continue
        for turn in group:
            if turn.role == "assistant":
                yield from _turn("assistant", _assistant(turn), weight=1.0)
            else:
                yield from _turn(turn.role, _content(turn))
    if reply:
        yield from _head("assistant")


def _head(role: str) -> Iterator[Words | Mark]:
    yield Mark(IM_START)
    yield Words(f"{role}\n")


def _turn(role: str, content: Iterator[Words | Mark | Media], weight: float = 0.0) -> Iterator[Words | Mark | Media]:
    yield from _head(role)
    yield from content
    yield Mark(IM_END, weight)
    yield Words("\n")


def _content(turn: Turn, weight: float = 0.0) -> Iterator[Words | Media]:
    for part in turn.content:
        yield Words(part.text, weight) if isinstance(part, Text) else part


def _assistant(turn: Turn) -> Iterator[Words | Mark | Media]:
    yield from _content(turn, 1.0)
    something_before = any(isinstance(part, Text) and part.text for part in turn.content)
    for call in turn.tool_calls:
        if something_before:
            yield Words("\n", 1.0)
        yield Mark(TOOL_CALL, 1.0)
        yield Words(f"\n{call.to_json()}\n", 1.0)
        yield Mark(TOOL_CALL_END, 1.0)
        something_before = True


def _tool_responses(turns: list[Turn]) -> Iterator[Words | Mark | Media]:
    for number, turn in enumerate(turns):
        if number:
            yield Words("\n")
        yield Mark(TOOL_RESPONSE)
        yield Words("\n")
        yield from _content(turn)
        yield Words("\n")
        yield Mark(TOOL_RESPONSE_END)
