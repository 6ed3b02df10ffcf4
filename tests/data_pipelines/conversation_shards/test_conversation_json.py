"""Any conversation survives the way through JSON, and what is none is named."""

import json

from hypothesis import given, settings
import pytest

from data_pipelines.conversation_shards.conversation_json import turns_from_json, turns_to_json
from tests.sequence.conversations import conversations


@settings(max_examples=40)
@given(conversations())
def test_any_conversation_comes_back(conversation):
    turns, sizes = conversation
    numbers = iter(range(len(sizes)))
    value = json.loads(json.dumps(turns_to_json(turns, lambda _: next(numbers))))
    asked_for = []
    assert turns_from_json(value, asked_for.append) == tuple(turns)
    assert asked_for == list(range(len(sizes)))


USER = {"role": "user", "content": []}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"turns = \[\]: accepted is a list of turns, at least one"),
        ("hello", 'turns = "hello"'),
        ([USER, {"content": "hello"}], r'turns\[1\] = {"content": "hello"}: accepted is {"role"'),
        ([{**USER, "name": "x"}], r"turns\[0\] = "),
        ([{"role": "user", "content": 3}], r"turns\[0\] = "),
        ([{"role": "robot", "content": "hello"}], "Turn.role = 'robot': accepted is one of system"),
        ([{"role": "user", "content": [{"text": 3}]}], r'turns\[0\]\.content\[0\] = {"text": 3}: accepted is {"text"'),
        ([{"role": "user", "content": [{"image": "a", "sound": True}]}], r"turns\[0\]\.content\[0\]"),
        ([{"role": "user", "content": ["hello"]}], r'content\[0\] = "hello"'),
        ([{"role": "assistant", "content": [{"image": "a"}]}], r"turns\[0\]: Turn.content\[0\] .* assistant is Text"),
        ([{"role": "assistant", "tool_calls": [{"name": "f"}]}], r'tool_calls\[0\] = {"name": "f"}: accepted is'),
        ([{**USER, "tool_calls": [{"name": "f", "arguments": {}}]}], "accepted is the role assistant"),
    ],
)
def test_what_is_no_conversation_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        turns_from_json(value, str)
