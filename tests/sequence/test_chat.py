"""ChatML: its text is that of the template, and the loss falls on what the assistant writes."""

import pytest

from qomni_jax.sequence.chat import Audio, Image, Text, ToolCall, Turn, Video, media_of, render
from qomni_jax.sequence.elements import Mark, Words

CONVERSATION = (
    Turn("system", (Text("Be brief."),)),
    Turn("user", (Image(), Text("What is it?"), Audio())),
    Turn("assistant", (Text("Let me look."),), (ToolCall("find", {"what": "cat"}), ToolCall("now", {}))),
    Turn("tool", (Text("a cat"),)),
    Turn("tool", (Text("noon"),)),
    Turn("assistant", (Text("A cat, at noon."),)),
)


def as_text(rendered) -> str:
    pieces = {Words: lambda e: e.text, Mark: lambda e: e.token, Image: lambda e: "[image]", Audio: lambda e: "[audio]"}
    return "".join(pieces[type(element)](element) for element in rendered)


def test_the_text_is_that_of_the_template():
    assert as_text(render(CONVERSATION, reply=True)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n[image]What is it?[audio]<|im_end|>\n"
        "<|im_start|>assistant\nLet me look.\n"
        '<tool_call>\n{"name": "find", "arguments": {"what": "cat"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\na cat\n</tool_response>\n"
        "<tool_response>\nnoon\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nA cat, at noon.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_loss_falls_on_what_the_assistant_writes_and_on_the_end_of_its_turn():
    weighted = [element for element in render(CONVERSATION) if getattr(element, "weight", 0.0)]
    assert as_text(weighted) == (
        'Let me look.\n<tool_call>\n{"name": "find", "arguments": {"what": "cat"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call><|im_end|>'
        "A cat, at noon.<|im_end|>"
    )
    assert {element.weight for element in weighted} == {1.0}


def test_a_conversation_grows_at_its_end():
    for turns in range(1, len(CONVERSATION)):
        if CONVERSATION[turns].role != "tool" or CONVERSATION[turns - 1].role != "tool":
            before = list(render(CONVERSATION[:turns]))
            assert list(render(CONVERSATION))[: len(before)] == before


def test_media_keep_their_order():
    turns = [Turn("user", (Audio("a"), Text(""), Image("b"))), Turn("user", (Video("c", sound=True),))]
    assert [item.source for item in media_of(turns)] == ["a", "b", "c"]


def test_errors_name_the_value():
    with pytest.raises(ValueError, match=r"Turn\.role = 'robot': accepted is one of system, user"):
        Turn("robot")
    with pytest.raises(TypeError, match=r"Turn\.content\[0\] = 'h': accepted in the role user is Text, Image"):
        Turn("user", "hello")
    with pytest.raises(TypeError, match=r"content\[1\] = Image.*accepted in the role assistant is Text"):
        Turn("assistant", (Text("see"), Image()))
    with pytest.raises(ValueError, match="tool_calls in the role user"):
        Turn("user", (), (ToolCall("now", {}),))
