"""What is spoken of an answer: marks, code and addresses are kept from it, words never, however the text is cut up."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.speakable import SpeakableText, speakable
from qomni_jax.sequence.special_tokens import IM_END, TOOL_CALL, TOOL_CALL_END
from qomni_jax.sequence.spoken_tokens import SpokenTokens, TokenText
from qomni_jax.sequence.tokenizer import TextTokenizer

CASES = {
    "plain": [
        ("Hello, world! It's 5 o'clock (or so): 100% \"sure\" - C# & A/B.", None),
        ("日本語の文。Größe, naïve, नमस्ते", None),
        ("5 * 3 is 15, 2*3 is 6, snake_case, ~5 minutes, 1 < 2 > 0, a@b.org", None),
        ("It costs $5, not $6.50 or US$7; $HOME is set", None),
        ("Dear <your name>, if x <y then stop", None),
        ("#1 of the list, A -> B, wait...", None),
    ],
    "markdown": [
        ("# Title\n\n## Part **two**\nText", "Title\n\nPart two\nText"),
        ("- one\n  * two\n+ three\n1. four\n- [x] done", "one\n  two\nthree\n1. four\n done"),
        ("**bold** and *soft* and __both__ and ~~gone~~ and ***all***", "bold and soft and both and gone and all"),
        ("> quoted\n> > twice", " quoted\n  twice"),
        ("above\n---\nbelow\n* * *\n", "above\n\nbelow\n\n"),
        ("| Name | Age |\n|------|:---:|\n| Ann | 5 |\n", " Name  Age \n\n Ann  5 \n"),
        ('[the docs](https://x.y/z_(a)?q=1 "title") say', "the docs say"),
        ("![a cat](cat.png)[^1] sleeps [sic]", "a cat sleeps sic"),
        (r"\*not bold\* costs \$5", "*not bold* costs $5"),
    ],
    "code": [
        ("Run:\n```sh\nmake test\n```\nDone.", "Run:\nDone."),
        ("Run `make test`, then `x = f(y)`.", "Run make test, then ."),
        ("~~~\na\n```\nb\n~~~~\nc", "c"),
        ("```py\nnever closed", ""),
        ("a lone ` mark\nand more", "a lone  mark\nand more"),
        ("``a ` b`` c", " c"),
    ],
    "formulas": [
        ("with $x$ and $E = mc^2$ and $ax^2+bx$.", "with x and  and ."),
        (r"so \(a_1\) and \[ \frac{1}{2} \] hold", "so  and  hold"),
        ("$$\na = b\n$$\nthen", "\nthen"),
        (r"\begin{align} a &= b \end{align} then", " then"),
    ],
    "addresses": [
        ("see https://a.org/b?c=d. Or www.x.de, please", "see . Or , please"),
        ("(http://a.b) 见https://a.com。谢谢 <https://c.d>", "() 见https://a.com。谢谢 "),
        ("见 https://a.com。谢谢", "见 。谢谢"),
    ],
    "html": [
        ("a<br/>b <b>c</b> <span class='x>y'>d</span> <!-- no --> <custom k=1>e</custom>", "ab c d  e"),
        ("use <code>x = 1</code> or the <code> tag", "use  or the  tag"),
    ],
    "tools": [
        (f'Wait.\n{TOOL_CALL}\n{{"name": "f"}}\n{TOOL_CALL_END}\nDone', "Wait.\n\nDone"),
        ("<think>\nhm, # well\n</think>\n\nYes", "\n\nYes"),
        (f"Now {TOOL_CALL}never closed", "Now "),
    ],
    "emoji": [("Great 👍🏽! 👩‍👩‍👧 ❤️ 🇩🇪 1️⃣ ok, 5°C, क्‍ष", "Great !    1 ok, 5°C, क्‍ष")],
}


@pytest.mark.parametrize("kind", CASES)
def test_what_is_spoken(kind):
    for text, spoken in CASES[kind]:
        assert speakable(text) == (text if spoken is None else spoken)


MARKS = re.split(
    " ",
    "a ab word h www. http:// https://x.y/z_ü , . ! ? * ** *** _ __ ~ ~~~ ` `` ``` $ $$ $5 5 # ## - + • > | |-- --- [ "
    "] [x] ![ ]( ](u) ( ) [^ \\ \\( \\) \\[ \\] \\begin{a} \\end{a} < <b <b> </b> <code> </code> <!-- --> <think> "
    "</think> <tool_call> </tool_call> <x y=1> = ^ 👍 \ufe0f \u200d",
)
TEXTS = st.lists(st.sampled_from([*MARKS, " ", "\n", "\n\n", "\n```\n"]), max_size=24).map("".join)


@settings(max_examples=200)
@given(TEXTS, st.data())
def test_any_pieces_give_the_same(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    parts = SpeakableText()
    pieces = [parts.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "".join(pieces) + parts.close() == speakable(text)


@settings(max_examples=100)
@given(TEXTS)
def test_one_character_at_a_time_gives_the_same(text):
    parts = SpeakableText()
    assert "".join(map(parts.feed, text)) + parts.close() == speakable(text)


WORDS = st.text(st.characters(categories=["Ll", "Lu", "Lo", "Nd"]), min_size=1, max_size=9)
# Signs of every kind that neither open code, formulas, tags or addresses nor stand for what is not said.
SIGNS = st.sampled_from([", ", ". ", "! ", "? ", "; ", ": ", " - ", " -- ", "… ", " (", ") ", " **", "** ", " _", "_ "])
BREAKS = st.sampled_from([" ", " ", "\n", "\n\n", "\n- ", "\n# ", "\n> ", "\n1. ", " | ", " [", "] ", " * ", " ~~"])


@settings(max_examples=100)
@given(st.lists(st.tuples(WORDS, SIGNS | BREAKS), max_size=12))
def test_no_word_is_lost(parts):
    spoken = speakable("".join(word + sign for word, sign in parts))
    for word, _ in parts:
        before, found, spoken = spoken.partition(word)
        assert found == word
        assert not any(character.isalpha() for character in before)


def test_plain_text_does_not_wait():
    parts = SpeakableText()
    assert [parts.feed(text) for text in ("So ", "what", " is it", "? ", "Five", " < 6")] == [
        "So ",
        "what",
        " is it",
        "? ",
        "Five",
        " < 6",
    ]
    assert parts.feed("!") == ""  # perhaps a picture
    assert parts.feed(" ht") == "! "  # perhaps an address
    assert parts.feed("h") == "hth"


TOKENIZER = ChatTokenizer.train(["see the *word here, `x = 1` or 日本 then"] * 3, 330)


def spoken_of(text: str, more: list[int]) -> tuple[list[int], list[int]]:
    """Its tokens, and those that are spoken."""
    tokens = [*TOKENIZER.encode_text(text).tolist(), *more]
    gate = SpokenTokens(TOKENIZER)
    spoken = [token for given_token in tokens for token in gate.feed(given_token)]
    return tokens, spoken + gate.close()


@settings(max_examples=50)
@given(st.lists(WORDS | st.sampled_from([", ", " ", "\n", ".", "日", "é"]), max_size=8).map("".join))
def test_tokens_that_are_speakable_throughout_stay_as_they_are(text):
    tokens, spoken = spoken_of("so " + text, [TOKENIZER.special(IM_END)])
    assert spoken == tokens[:-1]


@settings(max_examples=100)
@given(TEXTS)
def test_tokens_that_are_spoken_are_the_spoken_text(text):
    tokens, spoken = spoken_of(text, [])
    assert TOKENIZER.decode(spoken).split() == speakable(TOKENIZER.decode(tokens)).split()


def test_a_word_loses_its_marks_not_its_space_and_code_and_lone_spaces_are_no_answer():
    spoken = spoken_of("\nsee the **word** here, `x = 1`", [])[1]
    assert TOKENIZER.decode(spoken) == "\nsee the word here, "
    assert spoken == TOKENIZER.encode_text("\nsee the word here, ").tolist()
    assert spoken_of("```\ncode\n```\n\n", [TOKENIZER.special(IM_END)])[1] == []


def test_text_of_tokens_is_shown_once_its_characters_are_complete():
    text, parts = "日本 é", TokenText(TOKENIZER)
    shown = [parts.feed(token) for token in [*TOKENIZER.encode_text(text).tolist(), TOKENIZER.special(IM_END)]]
    assert "".join(part or "" for part in shown) + parts.close() == text
    assert shown[-1] == ""
    assert None in shown


def test_text_of_tokens_keeps_its_spaces_where_the_decoder_strips_them():
    tokenizer = TextTokenizer.train(["one two three"] * 3, 290)
    text, parts = "one  two three four", TokenText(tokenizer)
    shown = [parts.feed(token) for token in tokenizer.encode(text).tolist()]
    assert "".join(part or "" for part in shown) + parts.close() == text
