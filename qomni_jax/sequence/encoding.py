"""Elements of a layout with their text as token ids."""

from collections.abc import Iterable, Iterator
import itertools
from typing import NamedTuple, TypeVar

import numpy as np

from qomni_jax.sequence.elements import Element, Item, Mark, Slots, Words
from qomni_jax.sequence.tokenizer import TokenizerProtocol

Other = TypeVar("Other", Slots, Item)


class TextRun(NamedTuple):
    """Token ids `[n]`, n >= 1, of words or of a mark; `weight` and `at` as those of `Words`."""

    ids: np.ndarray
    weight: float
    at: float | None


class ItemRun(NamedTuple):
    """A media item, its text encoded."""

    runs: tuple[TextRun | Slots, ...]


def encode(elements: Iterable[Element], tokenizer: TokenizerProtocol) -> Iterator[TextRun | ItemRun]:
    """The elements, encoded. Raises ValueError where the tokenizer lacks a special token.

    Words that follow each other are one text to the tokenizer where they weigh the same, as in a template that is
    written out before it is encoded; what the assistant writes never merges with what stands before it.
    """
    for run in _encode(elements, tokenizer):
        yield ItemRun(tuple(_encode(run.elements, tokenizer))) if isinstance(run, Item) else run


def _encode(elements: Iterable[Words | Mark | Other], tokenizer: TokenizerProtocol) -> Iterator[TextRun | Other]:
    for key, group in itertools.groupby(elements, _text_key):
        if key is not None:
            weight, at = key
            text = "".join(element.text for element in group if isinstance(element, Words))
            if text:
                yield TextRun(tokenizer.encode_text(text), weight, at)
            continue
        for element in group:
            if isinstance(element, Mark):
                yield TextRun(np.array([tokenizer.special(element.token)], np.int32), element.weight, element.at)
            elif not isinstance(element, Words):
                yield element


def _text_key(element: Words | Mark | Slots | Item) -> tuple[float, float | None] | None:
    """What neighbouring words must share to be encoded together; None for what is no words."""
    return (element.weight, element.at) if isinstance(element, Words) else None
