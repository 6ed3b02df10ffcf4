"""Markup in text that is still being written: what comes next, and which of its characters are said.

Every function here looks at the beginning of `text`, of which more may come unless it is `final`. It answers with one
bool a character for as many as it takes, True where the character is said, and None where there is no such markup. It
raises `Undecided` where text that is still to come may change the answer; so it does not matter in what pieces text
comes. The policy stands in `sequence.speakable`.
"""

import re
import unicodedata

from qomni_jax.sequence.special_tokens import THINK, TOOL_CALL, TOOL_RESPONSE

Verdicts = list[bool]

# What stands between these tags is no speech, be they closed or not.
_SILENT_TAGS = tuple(name.strip("<>") for name in (THINK, TOOL_CALL, TOOL_RESPONSE))
# What stands between these is none if they are closed in the same paragraph.
_CODE_TAGS = {"code", "pre", "script", "style", "svg", "math"}
_HTML_TAGS = re.compile(
    "a|abbr|article|audio|b|big|blockquote|body|br|button|caption|center|cite|code|dd|del|details|div|dl|dt|em|font|footer|"
    "form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|link|main|mark|math|nav|ol|option|p|pre|q|s|"
    "samp|script|section|select|small|span|strong|style|sub|summary|sup|svg|table|tbody|td|textarea|tfoot|th|thead|"
    "title|tr|u|ul|var|video|wbr"
)
_TAG = re.compile(
    r"<(?P<close>/?)(?P<name>[A-Za-z][\w-]*)"
    r"(?P<attributes>(?:[ \t]+[\w:-]+[ \t]*=[ \t]*(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s\"'=<>`]+))*)[ \t]*(?P<empty>/?)>"
)
_AUTOMATIC_LINK = re.compile(r"<(?:[A-Za-z][A-Za-z0-9+.-]+:[^\s<>]*|[^\s<>@]+@[^\s<>@]+)>")
_LINK_TARGET = re.compile(
    r"\]\([ \t]*(?:<[^>\n]*>|[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'))?[ \t]*\)"
)
_ADDRESSES = ("https://", "http://", "ftp://", "www.", "mailto:")
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'()*+,\-./:;=?@\\^_{}~]*")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")
_RULE = re.compile(r"[-=_*+:| \t\r]*")
_WORD = re.compile(r"[^\W_]+")
# Words, numbers and single letters, which are said even where they stand as code or as a formula.
_WORDS = re.compile(r"\s*[^\W_]+(?:[ '’-][^\W_]+)*\s*")


class Undecided(Exception):
    """More text may change the answer."""


def opening_fence(text: str, final: bool) -> tuple[str, Verdicts] | None:
    """At the start of a line: the fence that opens a block of code there, with the line."""
    if text[0] not in "`~":
        return None
    run = _run(text, final)
    if run < 3:
        return None
    line = _line(text, final)
    return None if text[0] == "`" and "`" in line[run:] else (text[:run], _muted(len(line)))


def fenced_line(text: str, fence: str, final: bool) -> tuple[bool, Verdicts]:
    """A line inside a block of code: whether it closes the block; it is muted anyway, with its end."""
    line = _line(text, final)
    closes = re.fullmatch(rf"[\s>]*{re.escape(fence)}{re.escape(fence[0])}*\s*", line) is not None
    return closes, _muted(min(len(line) + 1, len(text)))


def line_mark(text: str, final: bool) -> tuple[bool, Verdicts] | None:
    """At the start of a line: marks of lists, headings, quotations and rules, and whether a line still starts behind
    them."""
    first = text[0]
    if first in " \t":
        return True, _said(1)
    if first in "-=_*+:|" and (rule := _rule(text, final)):
        return True, _muted(rule)
    if first in "-*+•" and _next(text, final) in (" ", "\t"):
        return True, _muted(2)
    if first == ">":
        return True, _muted(1)
    if first == "#":
        run = _run(text, final)
        following = text[run : run + 1]
        space = following in (" ", "\t")
        return (False, _muted(run + space)) if run <= 6 and (space or following in ("", "\n")) else None
    if first == "[":
        if not final and re.fullmatch(r"\[(?:[ xX]\]?)?", text):
            raise Undecided
        return (False, _muted(3)) if re.match(r"\[[ xX]\](?:\s|$)", text) else None
    return None


def starts_address(text: str, previous: str, final: bool) -> bool:
    """Whether an address begins here, behind the character `previous` ("" at the start)."""
    if previous.isalnum():
        return False
    start = text[:8].lower()
    if any(start.startswith(scheme) for scheme in _ADDRESSES):
        return True
    if not final and any(scheme.startswith(start) for scheme in _ADDRESSES):
        raise Undecided
    return False


def address(text: str, final: bool) -> tuple[bool, Verdicts]:
    """Inside an address: whether it is over, and what of it is settled. Stops at its end are the sentence's."""
    match = _ADDRESS.match(text)
    assert match is not None
    over, body = match.end() < len(text) or final, match.group().rstrip(".,;:!?'*_~)")
    if not over and not body:
        raise Undecided
    return over, _muted(len(body))


def tag(text: str, final: bool) -> tuple[str, Verdicts] | None:
    """HTML and the tags of tools and thoughts; with the name of a tag that silences what follows, or ""."""
    if text[0] != "<":
        return None
    second = _next(text, final)
    if second == "!":
        return _comment(text, final)
    if not second.isalpha() and second != "/":
        return None
    match = _TAG.match(text)
    if match is None:
        if link := _AUTOMATIC_LINK.match(text):
            return "", _muted(link.end())
        _line(text, final)
        return None
    name, opens = match["name"].lower(), not (match["close"] or match["empty"])
    if opens and name in _SILENT_TAGS:
        return match["name"], _muted(match.end())
    if opens and name in _CODE_TAGS:
        return "", _enclosed(text, match.end(), f"</{match['name']}>", final) or _muted(match.end())
    is_markup = not opens or match["attributes"] or _HTML_TAGS.fullmatch(name)
    return ("", _muted(match.end())) if is_markup else None


def silenced(text: str, name: str, final: bool) -> tuple[bool, Verdicts]:
    """Inside the tag `name`: whether it is closed, and what is settled by now."""
    closing = f"</{name}>"
    at = text.find(closing)
    if at >= 0:
        return True, _muted(at + len(closing))
    settled = len(text) if final else len(text) - len(closing) + 1
    if settled <= 0:
        raise Undecided
    return False, _muted(settled)


def inline(text: str, previous: str, final: bool) -> Verdicts:
    """All else that may stand inside a line, and what is no markup."""
    first = text[0]
    if first == "`":
        return _code(text, final)
    if first == "$":
        return _formula(text, final)
    if first == "\\":
        return _escape(text, final)
    if first in "*_~":
        return _emphasis(text, previous, final)
    if first in "![]":
        return _bracket(text, final)
    if first == "|" or _is_emoji(first) or (first == "\u200d" and _is_emoji(previous)):
        return _muted(1)
    word = _WORD.match(text)
    return _said(word.end() if word else 1)


def _rule(text: str, final: bool) -> int:
    """How many characters of a line that holds marks alone; 0 for another line."""
    match = _RULE.match(text)
    assert match is not None
    if match.end() == len(text) and not final:
        raise Undecided
    return match.end() if text[match.end() : match.end() + 1] in ("", "\n") else 0


def _comment(text: str, final: bool) -> tuple[str, Verdicts] | None:
    if not final and "<!--".startswith(text):
        raise Undecided
    found = _enclosed(text, 4, "-->", final) if text.startswith("<!--") else None
    return ("", _muted(len(found))) if found else None


def _code(text: str, final: bool) -> Verdicts:
    """Code between two equal runs of backticks in one line."""
    run = _run(text, final)
    line = text.partition("\n")[0]
    for match in re.finditer("`+", line[run:]):
        if len(match.group()) == run:
            if run + match.end() == len(text) and not final:
                raise Undecided
            return _wrapped(text, run, run + match.start(), run)
    _line(text, final)
    return _muted(run)


def _formula(text: str, final: bool) -> Verdicts:
    """LaTeX between dollars, which prices are told from: no space at its ends, no digit behind it, and no three letters
    in a row before the first of LaTeX's own signs."""
    second = _next(text, final)
    if second == "$":
        return _enclosed(text, 2, "$$", final) or _muted(2)
    if not second or second.isspace():
        return _said(1)
    letters, signs = 0, False
    for at, character in enumerate(text[1:], 1):
        if character == "\n":
            return _said(1)
        if (
            character == "$"
            and not text[at - 1].isspace()
            and text[at - 1] != "\\"
            and not _next(text[at:], final).isdigit()
        ):
            return _wrapped(text, 1, at, 1)
        signs = signs or character in "\\^_={}"
        letters = letters + 1 if character.isalpha() else 0
        if letters == 3 and not signs:
            return _said(1)
    if not final:
        raise Undecided
    return _said(1)


def _escape(text: str, final: bool) -> Verdicts:
    """A backslash: formulas in brackets, environments, and characters that are meant as they stand."""
    second = _next(text, final)
    if second and second in "([":
        return _enclosed(text, 2, {"(": r"\)", "[": r"\]"}[second], final) or [False, True]
    if not final and r"\begin{".startswith(text):
        raise Undecided
    if text.startswith(r"\begin{"):
        end = text.partition("\n")[0].find("}")
        if end < 0:
            _line(text, final)
            return _muted(1)
        return _enclosed(text, end + 1, rf"\end{{{text[7:end]}}}", final) or _muted(end + 1)
    return [False, True] if second and second in "\\`*_{}[]()#+-.!|<>~$&%^\"'" else _muted(1)


def _emphasis(text: str, previous: str, final: bool) -> Verdicts:
    """Runs of `*`, `_` and `~`: said are those that stand for multiplication, join a name, or mean about."""
    run = _run(text, final)
    following = text[run : run + 1]
    if text[0] == "~":
        keep = run == 1
    elif text[0] == "_":
        keep = previous.isalnum() and following.isalnum()
    else:
        keep = (previous.isspace() and following.isspace()) or (previous.isdigit() and following.isdigit())
    return _said(run) if keep else _muted(run)


def _bracket(text: str, final: bool) -> Verdicts:
    """Links, images and footnotes. The text of a link is said, and so is what stands in any other bracket."""
    first, second = text[0], _next(text, final)
    if first == "!":
        return _muted(1) if second == "[" else _said(1)
    if first == "[" and second == "^":
        if match := re.match(r"\[\^[^\]\s]*\]", text):
            return _muted(match.end())
        if not final and re.fullmatch(r"\[\^[^\]\s]*", text):
            raise Undecided
    if first == "]" and second == "(":
        if match := _LINK_TARGET.match(text):
            return _muted(match.end())
        _line(text, final)
    return _muted(1)


def _enclosed(text: str, start: int, closing: str, final: bool) -> Verdicts | None:
    """From an opening mark of `start` characters to `closing`, which has to come in the same paragraph."""
    blank = _BLANK_LINE.search(text)
    at = text.find(closing, start)
    if at >= 0 and (blank is None or at < blank.start()):
        return _wrapped(text, start, at, len(closing))
    if blank is None and not final:
        raise Undecided
    return None


def _wrapped(text: str, start: int, end: int, closing: int) -> Verdicts:
    """An opening mark of `start` characters, content up to `end`, and a closing mark."""
    content = text[start:end]
    inside = _said if _WORDS.fullmatch(content) else _muted
    return _muted(start) + inside(len(content)) + _muted(closing)


def _next(text: str, final: bool) -> str:
    """The second character; "" where text ends before it."""
    if len(text) == 1 and not final:
        raise Undecided
    return text[1:2]


def _run(text: str, final: bool) -> int:
    """How often the first character stands at the beginning."""
    run = len(text) - len(text.lstrip(text[0]))
    if run == len(text) and not final:
        raise Undecided
    return run


def _line(text: str, final: bool) -> str:
    """The rest of the line, once it is complete."""
    line, end, _ = text.partition("\n")
    if not end and not final:
        raise Undecided
    return line


def _is_emoji(character: str) -> bool:
    """Pictures, what colours and joins them, and the sign for what could not be read."""
    if not character or character in "\ufe0e\ufe0f\u20e3\ufffd":
        return bool(character)
    code = ord(character)
    if code >= 0x1F000:
        return unicodedata.category(character) in ("So", "Sk") or 0xE0000 <= code < 0xE0080
    return 0x2300 <= code < 0x2C00 and unicodedata.category(character) == "So"


def _said(count: int) -> Verdicts:
    return [True] * count


def _muted(count: int) -> Verdicts:
    return [False] * count
