"""Tokens of an answer as text, and which of them are spoken, one by one as they are written."""

import collections
import re
from typing import Protocol

from qomni_jax.sequence.speakable import SpeakableMask
from qomni_jax.sequence.tokenizer import TokenizerProtocol


class TokenGate(Protocol):
    """Chooses what is spoken of one answer while it is written."""

    def feed(self, token: int) -> list[int]:
        """The tokens that are known to be spoken once `token` is there, in their order."""
        ...

    def close(self) -> list[int]:
        """The rest of them, as the answer is over."""
        ...


class AllButTheLast:
    """The reference's choice: every token is spoken but the last one, which ends the answer."""

    def __init__(self) -> None:
        self._last: list[int] = []

    def feed(self, token: int) -> list[int]:
        """The token before."""
        spoken, self._last = self._last, [token]
        return spoken

    def close(self) -> list[int]:
        """Nothing."""
        return []


class TokenText:
    """Text of tokens that come one by one: each is decoded behind the one before it, as some decoders strip spaces."""

    def __init__(self, tokenizer: TokenizerProtocol):
        self._tokenizer = tokenizer
        self._tokens: list[int] = []  # those of the latest text, and what came after it
        self._behind = 0  # where these begin
        self._shown = 0  # characters of the latest text

    def feed(self, token: int) -> str | None:
        """The text that `token` completes, "" for a special token; None while a character is not complete."""
        self._tokens.append(token)
        text = self._tokenizer.decode(self._tokens)
        return None if text.endswith("\ufffd") else self._new(text)

    def close(self) -> str:
        """What is left, with signs in the place of characters that were never completed."""
        return self._new(self._tokenizer.decode(self._tokens))

    def _new(self, text: str) -> str:
        new = text[self._shown :]
        if new:
            self._tokens = self._tokens[self._behind :]
            self._behind = len(self._tokens)
            self._shown = len(self._tokenizer.decode(self._tokens))
        return new


class SpokenTokens:
    """Which tokens of an answer are spoken, for a Talker that reads the Thinker's tokens (Qwen3-Omni's does).

    A token is spoken as it is if all its characters are spoken by the policy of `sequence.speakable`. Of one that holds
    marks as well (` **`, `*word`), what is left is encoded anew, together with the next token that is spoken, so that
    no word loses its beginning or the space before it. Tokens that share a character go together; special tokens have
    no text and are never spoken. So an answer that is speakable throughout reaches the Talker token by token as it was
    written, but for the special one that ends it. Spaces and line ends alone are no answer.
    """

    def __init__(self, tokenizer: TokenizerProtocol):
        self._tokenizer = tokenizer
        self._text = TokenText(tokenizer)
        self._mask = SpeakableMask()
        self._unread: list[int] = []  # tokens whose characters are not complete
        self._groups: collections.deque[tuple[list[int], str]] = collections.deque()  # tokens without a verdict
        self._settled: list[bool] = []  # verdicts on the first characters of the groups
        self._left = ""  # of tokens that hold marks
        self._spaces: list[int] = []  # before the first word
        self._begun = False

    def feed(self, token: int) -> list[int]:
        """The tokens that are known to be spoken once `token` is there, in their order."""
        self._unread.append(token)
        text = self._text.feed(token)
        return [] if text is None else self._read(text)

    def close(self) -> list[int]:
        """The rest of them, as the answer is over."""
        spoken = self._read(self._text.close())
        self._settled += self._mask.close()
        spoken += self._decide()
        return spoken + self._encode_left() if self._left.strip() else spoken

    def _read(self, text: str) -> list[int]:
        self._groups.append((self._unread, text))
        self._unread = []
        self._settled += self._mask.feed(text)
        return self._decide()

    def _decide(self) -> list[int]:
        spoken: list[int] = []
        while self._groups and len(self._settled) >= len(self._groups[0][1]):
            tokens, text = self._groups.popleft()
            verdicts, self._settled = self._settled[: len(text)], self._settled[len(text) :]
            said = "".join(character for character, verdict in zip(text, verdicts, strict=True) if verdict)
            if said == text and not self._left:
                spoken += self._spoken(tokens, text) if text else []
                continue
            self._left += said
            if said == text or (not said and self._left.strip()):
                spoken += self._encode_left()
        return spoken

    def _encode_left(self) -> list[int]:
        text, self._left = re.sub("[ \t]+", " ", self._left), ""
        return self._spoken(self._tokenizer.encode_text(text).tolist(), text)

    def _spoken(self, tokens: list[int], text: str) -> list[int]:
        if not self._begun and not text.strip():
            self._spaces += tokens
            return []
        tokens, self._spaces, self._begun = [*self._spaces, *tokens], [], True
        return tokens
