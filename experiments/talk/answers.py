"""Answers as they come: what every kind of answer gives, and the kind that is text alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.runaway import Reason
from qomni_jax.inference.text import TextGenerator
from qomni_jax.interop.thinker_model import open_thinker
from qomni_jax.layers.language_model import unstack_language_model
from qomni_jax.sequence.assembly import PAD_OF
from qomni_jax.sequence.chat import ToolCall
from qomni_jax.sequence.chat_tokenizer import open_tokenizer
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.replies import ReplyParser
from qomni_jax.sequence.special_tokens import IM_END, PADDING
from qomni_jax.sequence.spoken_tokens import TokenText
from qomni_jax.thinker.model import MediaFeatures
from qomni_jax.thinker.storage import StoredThinker, Tokenizer

WARM_UP_TOKENS = 3


class Event(NamedTuple):
    """What comes next of an answer, one of these.

    Attributes:
      text: to show, that a token of the Thinker completes; often "".
      tool_calls: that are complete with it.
      codes: `[Q]`, a frame of the Talker.
      samples: of that frame, float32.
      reason: why speech is over.
    """

    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    codes: np.ndarray | None = None
    samples: np.ndarray | None = None
    reason: Reason | None = None


class Answerer(Protocol):
    """A model that answers.

    Attributes:
      stored, params, tokenizer: of its Thinker.
      sample_rate: Hz of its speech; None for one that does not speak.
    """

    stored: StoredThinker
    params: Any
    tokenizer: Tokenizer
    sample_rate: int | None

    def stream(self, prompt: Prompt, features: MediaFeatures | None) -> Iterator[Event]:
        """The answer to a prompt with media."""
        ...

    def warm_up(self, prompt: Prompt, features: MediaFeatures | None) -> None:
        """Compiles all that `stream` runs for this prompt."""
        ...


class Writing:
    """Text and tool calls of one answer, out of its tokens."""

    def __init__(self, tokenizer: Tokenizer):
        self._text, self._parser = TokenText(tokenizer), ReplyParser()

    def feed(self, token: int) -> Event:
        """What `token` completes. Raises ValueError for a tool call that is none."""
        reply = self._parser.feed(self._text.feed(token) or "")
        return Event(text=reply.text, tool_calls=reply.tool_calls)

    def close(self) -> Event:
        """What is left at the end. Raises ValueError inside a tool call."""
        reply = self._parser.feed(self._text.close())
        return Event(text=reply.text + self._parser.close().text, tool_calls=reply.tool_calls)


class TextAnswers:
    """Answers in text. Raises ValueError and OSError with one line where there is no such model."""

    sample_rate: int | None = None

    def __init__(self, checkpoint: str, sampling: SamplingConfig, max_new_tokens: int):
        opened, self.params = open_thinker([checkpoint])
        self.stored = opened.stored
        self.tokenizer = read_tokenizer(checkpoint)
        require_pads(checkpoint, self.tokenizer, opened.pads)
        self._sampling, self._max_new_tokens = sampling, max_new_tokens

    def stream(self, prompt: Prompt, features: MediaFeatures | None) -> Iterator[Event]:
        """The answer to a prompt with media."""
        writing = Writing(self.tokenizer)
        for token in self._generator(prompt).stream(prompt, self._max_new_tokens, features=features):
            yield writing.feed(token)
        yield writing.close()

    def warm_up(self, prompt: Prompt, features: MediaFeatures | None) -> None:
        """Compiles all that `stream` runs for this prompt."""
        tokens = min(WARM_UP_TOKENS, self._max_new_tokens)
        for _ in self._generator(prompt).stream(prompt, tokens, features=features):
            pass

    def _generator(self, prompt: Prompt) -> TextGenerator:
        return TextGenerator(
            *unstack_language_model(self.stored.config.language_model, self.params["language_model"]),
            capacity=len(prompt.tokens) + self._max_new_tokens,
            stop_tokens=stop_tokens(self.tokenizer),
            sampling=self._sampling,
        )


def read_tokenizer(checkpoint: str) -> Tokenizer:
    """tokenizer.json of a checkpoint. Raises ValueError where there is none."""
    return open_tokenizer(Path(checkpoint) / "tokenizer.json")


def require_pads(checkpoint: str, tokenizer: Tokenizer, pads: dict[Kind, int]) -> None:
    """Raises ValueError where a tokenizer does not have config.json's ids for features."""
    for kind, index in pads.items():
        if tokenizer.special(PAD_OF[kind]) != index:
            raise ValueError(
                f"{checkpoint}: tokenizer.json gives {PAD_OF[kind]} the id {tokenizer.special(PAD_OF[kind])}: "
                f"accepted is {index}, as in config.json"
            )


def stop_tokens(tokenizer: Tokenizer) -> tuple[int, int]:
    """The tokens that end an answer."""
    return tokenizer.special(IM_END), tokenizer.special(PADDING)
