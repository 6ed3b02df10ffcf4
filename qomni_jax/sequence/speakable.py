"""What of a written answer is spoken, found while it is being written."""

from qomni_jax.sequence import markup


class SpeakableMask:
    """Says of each character of text that comes in pieces of any size whether it is spoken.

    The policy. Spoken text is what is left of the written one when characters are taken out; nothing is put in, and no
    word is lost but those listed here.

    - Not spoken at all: tool calls and what tools answered, thoughts (`<think>`), fenced code, code and formulas that
      are more than words, addresses (`https://...`, `www....`), targets of links, footnote marks, comments and tags of
      HTML, and what stands between the tags `code`, `pre`, `script`, `style`, `svg` and `math` of one paragraph.
    - Spoken without their marks: emphasis, headings, quotations, items of lists and their check boxes, cells of tables,
      texts of links and of images, struck-out text, and code or formulas that are words, numbers or single letters
      alone (`make`, $x$). Numbers of items stay.
    - Not spoken: emoji, rules, pipes, square brackets, lines that hold such marks alone.
    - Spoken: everything else. `*` between numbers or spaces is a product, `_` inside a word joins a name, `$` before a
      price is a currency, `<` is a comparison where no tag follows, and what a backslash precedes is itself.

    A mark that is opened and never closed is a mark alone, and the words behind it are spoken. Code, links, tags and
    formulas inside a line have until its end to be closed, formulas of their own and HTML until the paragraph's, and
    speech waits as long. Fences and the tags of tools and thoughts silence what follows at once.
    """

    def __init__(self) -> None:
        self._text = ""  # not settled yet
        self._previous = ""  # the character before it
        self._line_starts = True
        self._fence = ""  # of the code that we are in
        self._silenced_by = ""  # the tag that we are in
        self._in_address = False

    def feed(self, text: str) -> list[bool]:
        """Verdicts on the next characters of all text so far, as many as are settled."""
        self._text += text
        return self._settle(final=False)

    def close(self) -> list[bool]:
        """Verdicts on the rest, as no more text comes."""
        return self._settle(final=True)

    def _settle(self, final: bool) -> list[bool]:
        settled: list[bool] = []
        while self._text:
            try:
                verdicts = self._next(final)
            except markup.Undecided:
                break
            if verdicts:
                self._previous = self._text[len(verdicts) - 1]
                self._text = self._text[len(verdicts) :]
                settled += verdicts
        return settled

    def _next(self, final: bool) -> list[bool]:
        """Verdicts on what comes first; none where something is over without a mark."""
        text = self._text
        if self._fence:
            closes, verdicts = markup.fenced_line(text, self._fence, final)
            if closes:
                self._fence, self._line_starts = "", True
            return verdicts
        if self._silenced_by:
            closes, verdicts = markup.silenced(text, self._silenced_by, final)
            if closes:
                self._silenced_by = ""
            return verdicts
        if self._in_address:
            over, verdicts = markup.address(text, final)
            self._in_address = not over
            return verdicts
        if self._line_starts:
            if fence := markup.opening_fence(text, final):
                self._fence, verdicts = fence
                return verdicts
            if mark := markup.line_mark(text, final):
                self._line_starts, verdicts = mark
                return verdicts
        if markup.starts_address(text, self._previous, final):
            self._in_address, self._line_starts = True, False
            return []
        if tag := markup.tag(text, final):
            self._silenced_by, verdicts = tag
        else:
            verdicts = markup.inline(text, self._previous, final)
        self._line_starts = text[len(verdicts) - 1] == "\n"
        return verdicts


class SpeakableText:
    """The same as text: what is spoken of text that comes in pieces of any size."""

    def __init__(self) -> None:
        self._mask = SpeakableMask()
        self._held = ""

    def feed(self, text: str) -> str:
        """What `text` settles."""
        self._held += text
        return self._take(self._mask.feed(text))

    def close(self) -> str:
        """What is left, as no more text comes."""
        return self._take(self._mask.close())

    def _take(self, verdicts: list[bool]) -> str:
        settled, self._held = self._held[: len(verdicts)], self._held[len(verdicts) :]
        return "".join(character for character, spoken in zip(settled, verdicts, strict=True) if spoken)


def speakable(text: str) -> str:
    """What is spoken of a whole text."""
    parts = SpeakableText()
    return parts.feed(text) + parts.close()
