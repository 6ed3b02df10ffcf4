"""What the assistant writes, parted into what is to be spoken and tool calls, all at once or as it comes."""

import json
from typing import NamedTuple

from qomni_jax.sequence.chat import ToolCall
from qomni_jax.sequence.special_tokens import TOOL_CALL, TOOL_CALL_END


class Reply(NamedTuple):
    """Text to show and speak, and the tool calls, which are never spoken."""

    text: str
    tool_calls: tuple[ToolCall, ...]


class ReplyParser:
    """Parts a reply that comes in pieces of any size. The line break before a tool call belongs to the call.

    Text is given out as soon as it cannot be the beginning of a tag.
    """

    def __init__(self) -> None:
        self._held = ""
        self._in_call = False

    def feed(self, text: str) -> Reply:
        """What `text` completes. Raises ValueError for a tool call that is not a JSON object of name and arguments."""
        self._held += text
        spoken: list[str] = []
        calls: list[ToolCall] = []
        while True:
            tag = TOOL_CALL_END if self._in_call else TOOL_CALL
            before, found, after = self._held.partition(tag)
            if not found:
                break
            if self._in_call:
                calls.append(_parse_call(before))
            else:
                spoken.append(before.removesuffix("\n"))
            self._held, self._in_call = after, not self._in_call
        if not self._in_call:
            keep = max(_overlap(self._held, TOOL_CALL), _overlap(self._held, "\n" + TOOL_CALL))
            spoken.append(self._held[: len(self._held) - keep])
            self._held = self._held[len(self._held) - keep :]
        return Reply("".join(spoken), tuple(calls))

    def close(self) -> Reply:
        """What is left at the end of the reply. Raises ValueError inside a tool call."""
        if self._in_call:
            raise ValueError(f"tool call {_shown(self._held)}: accepted is one that {TOOL_CALL_END} closes")
        held, self._held = self._held, ""
        return Reply(held, ())


def parse_reply(text: str) -> Reply:
    """Parts a whole reply. Raises ValueError for a tool call that is not closed, or not as `ToolCall.to_json`."""
    parser = ReplyParser()
    fed = parser.feed(text)
    return Reply(fed.text + parser.close().text, fed.tool_calls)


def _parse_call(text: str) -> ToolCall:
    try:
        call = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"tool call {_shown(text)}: accepted is a JSON object ({error})") from None
    if not (isinstance(call, dict) and isinstance(call.get("name"), str) and isinstance(call.get("arguments"), dict)):
        raise ValueError(f'tool call {_shown(text)}: accepted is {{"name": a string, "arguments": an object}}')
    return ToolCall(call["name"], call["arguments"])


def _overlap(text: str, tag: str) -> int:
    """Length of the longest end of `text` with which `tag` begins, shorter than `tag`."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}...")
