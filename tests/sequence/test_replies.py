"""Replies: tool calls are kept from being spoken, however the text is cut up."""

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from qomni_jax.sequence.chat import Text, ToolCall, Turn, render
from qomni_jax.sequence.elements import Mark, Words
from qomni_jax.sequence.replies import Reply, ReplyParser, parse_reply

TEXTS = (
    st.lists(st.sampled_from(["a", "\n", "<", "<tool", "_call", "</tool_call", ">", " ", "ä"]), max_size=8)
    .map("".join)
    .filter(lambda text: "<tool_call>" not in text)
)
VALUES = st.one_of(st.integers(), st.sampled_from(['"', "</tool_call>", "<tool_call>", "\n", "日本", "{"]), st.none())
CALLS = st.lists(
    st.builds(ToolCall, st.sampled_from(["f", "g</tool_call>"]), st.dictionaries(st.text("ab"), VALUES, max_size=3)),
    max_size=3,
)


def written(text: str, calls: list[ToolCall]) -> str:
    """A reply as the model sees it in training, without the end of its turn."""
    elements = [e for e in render([Turn("assistant", (Text(text),), tuple(calls))]) if getattr(e, "weight", 0.0)]
    return "".join(e.text if isinstance(e, Words) else e.token for e in elements if e != Mark("<|im_end|>", 1.0))


@settings(max_examples=30)
@given(TEXTS, CALLS)
def test_what_is_written_is_read(text, calls):
    assert parse_reply(written(text, calls)) == Reply(text, tuple(calls))


@settings(max_examples=30)
@given(TEXTS, CALLS, TEXTS, st.data())
def test_any_pieces_give_the_same(text, calls, after, data):
    whole = written(text, calls) + after
    expected = parse_reply(whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    parser = ReplyParser()
    replies = [parser.feed(whole[a:b]) for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    replies.append(parser.close())
    assert "".join(reply.text for reply in replies) == expected.text
    assert tuple(call for reply in replies for call in reply.tool_calls) == expected.tool_calls


def test_no_part_of_a_tag_is_spoken_and_nothing_else_waits():
    parser = ReplyParser()
    assert parser.feed("Wait.\n<tool_").text == "Wait."
    assert parser.feed("call>\n{").text == ""
    assert parser.feed('"name": "f", "arguments": {}}\n</tool_call>').tool_calls == (ToolCall("f", {}),)
    assert parser.feed(" 1 < 2").text == " 1 < 2"
    assert parser.feed(" <to").text == " "
    assert parser.close().text == "<to"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<tool_call>{</tool_call>", r"tool call '\{': accepted is a JSON object \(Expecting"),
        ("<tool_call>[1]</tool_call>", r"tool call '\[1\]': accepted is \{\"name\""),
        ('<tool_call>{"name": "f"}</tool_call>', "arguments"),
        ('<tool_call>{"name": 3, "arguments": {}}</tool_call>', "a string"),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", r"tool call '\[\[.*\.\.\.'"),
        ('<tool_call>{"name"', "closes"),
    ],
)
def test_a_bad_tool_call_is_one_clear_error(text, message):
    with pytest.raises(ValueError, match=message):
        parse_reply(text)
