"""What a conversation is made of between its text and its token ids: words, marks, places for features."""

import enum
from typing import NamedTuple


class Kind(enum.IntEnum):
    """What stands at a position of a sequence."""

    PADDING = -1
    TEXT = 0
    AUDIO = 1
    IMAGE = 2
    VIDEO = 3


class Words(NamedTuple):
    """Text, in which no special token can be spelled.

    `weight` is the loss weight of its tokens. `at` is None outside a media item; inside one, the temporal id, from the
    item's start, of what the text belongs to.
    """

    text: str
    weight: float = 0.0
    at: float | None = None


class Mark(NamedTuple):
    """One special token, by name; `weight` and `at` as those of `Words`."""

    token: str
    weight: float = 0.0
    at: float | None = None


class Slots(NamedTuple):
    """`size` places for features: consecutive audio tokens, or one image or one temporal patch of a video.

    `at` is the temporal id of the first, from the item's start. `height`, `width` are in tokens, 0 for audio.
    """

    kind: Kind
    size: int
    at: float = 0.0
    height: int = 0
    width: int = 0


class Item(NamedTuple):
    """One media item without its outermost brackets: what shares one origin of time."""

    elements: tuple[Words | Mark | Slots, ...]


Element = Words | Mark | Item
