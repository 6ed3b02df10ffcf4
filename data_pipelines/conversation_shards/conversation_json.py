"""Conversations as JSON: a list of turns whose parts name their media by whatever the caller gives them.

A turn is `{"role": R, "content": C}`; an assistant's may have `"tool_calls": [{"name": N, "arguments": {...}}]`. C is a
text or a list of parts: `{"text": S}`, `{"image": M}`, `{"audio": M}`, `{"video": M}`, the last with `"sound": true`
where its sound is heard too. M stands for a media file: its path in a JSON Lines file, its number in a record.
"""

from collections.abc import Callable, Sequence
import json
from typing import Any

from qomni_jax.sequence.chat import Audio, Image, Media, Part, Text, ToolCall, Turn, Video

_KINDS: dict[str, type[Image] | type[Audio] | type[Video]] = {"image": Image, "audio": Audio, "video": Video}
_TURN = '{"role": R, "content": a text or a list of parts}, of an assistant with "tool_calls" too'
_PART = '{"text": S}, {"image": M}, {"audio": M} or {"video": M, "sound": true or false}'
_CALL = '{"name": a text, "arguments": an object}'


def turns_to_json(turns: Sequence[Turn], name_of: Callable[[Media], Any]) -> list[dict[str, Any]]:
    """Turns as JSON; `name_of` is called once for each media item, in order, and gives what it is called there."""
    return [_turn_to_json(turn, name_of) for turn in turns]


def turns_from_json(value: Any, source_of: Callable[[Any], Any]) -> tuple[Turn, ...]:
    """Turns from JSON; `source_of` is called once for each media item, in order, and gives its source.

    Raises ValueError naming the part that is not as above, or as `source_of`.
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"turns = {_shown(value)}: accepted is a list of turns, at least one")
    return tuple(_turn_from_json(turn, f"turns[{number}]", source_of) for number, turn in enumerate(value))


def _turn_to_json(turn: Turn, name_of: Callable[[Media], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"role": turn.role, "content": [_part_to_json(part, name_of) for part in turn.content]}
    if turn.tool_calls:
        found["tool_calls"] = [{"name": call.name, "arguments": dict(call.arguments)} for call in turn.tool_calls]
    return found


def _part_to_json(part: Part, name_of: Callable[[Media], Any]) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    (kind,) = (name for name, of_kind in _KINDS.items() if isinstance(part, of_kind))
    sound = {"sound": True} if isinstance(part, Video) and part.sound else {}
    return {kind: name_of(part), **sound}


def _turn_from_json(value: Any, where: str, source_of: Callable[[Any], Any]) -> Turn:
    if not isinstance(value, dict) or not {"role"} <= value.keys() <= {"role", "content", "tool_calls"}:
        raise ValueError(f"{where} = {_shown(value)}: accepted is {_TURN}")
    content, calls = value.get("content", []), value.get("tool_calls", [])
    if not isinstance(content, str | list) or not isinstance(calls, list):
        raise ValueError(f"{where} = {_shown(value)}: accepted is {_TURN}")
    parts = [{"text": content}] if isinstance(content, str) else content
    try:
        return Turn(
            value["role"],
            tuple(_part_from_json(part, f"{where}.content[{i}]", source_of) for i, part in enumerate(parts)),
            tuple(_call_from_json(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)),
        )
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _part_from_json(value: Any, where: str, source_of: Callable[[Any], Any]) -> Part:
    if isinstance(value, dict):
        if value.keys() == {"text"} and isinstance(value["text"], str):
            return Text(value["text"])
        for kind, of_kind in _KINDS.items():
            if value.keys() == {kind}:
                return of_kind(source_of(value[kind]))
        if value.keys() == {"video", "sound"} and isinstance(value["sound"], bool):
            return Video(source_of(value["video"]), sound=value["sound"])
    raise ValueError(f"{where} = {_shown(value)}: accepted is {_PART}")


def _call_from_json(value: Any, where: str) -> ToolCall:
    fields = value if isinstance(value, dict) and value.keys() == {"name", "arguments"} else {}
    if isinstance(fields.get("name"), str) and isinstance(fields.get("arguments"), dict):
        return ToolCall(fields["name"], fields["arguments"])
    raise ValueError(f"{where} = {_shown(value)}: accepted is {_CALL}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."
