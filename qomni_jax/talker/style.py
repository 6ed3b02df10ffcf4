"""Words that describe how somebody speaks: one of two opposites for rate, pitch and level."""

from collections.abc import Sequence

ATTRIBUTES = ("rate", "pitch", "level")
OPPOSITES: dict[str, tuple[str, str]] = {"rate": ("slow", "fast"), "pitch": ("low", "high"), "level": ("soft", "loud")}
STYLE_WORDS = tuple(word for pair in OPPOSITES.values() for word in pair)
_ATTRIBUTE_OF = {word: attribute for attribute, pair in OPPOSITES.items() for word in pair}


def parse_style(style: str | Sequence[str]) -> tuple[str, ...]:
    """The words of a description such as `slow, soft`, in their order; none for an empty one.

    Raises ValueError naming the word that is not accepted: another one, or a second one of the same attribute.
    """
    words = style.replace(",", " ").split() if isinstance(style, str) else list(style)
    said: dict[str, str] = {}
    for word in words:
        if word not in _ATTRIBUTE_OF:
            raise ValueError(f"style word {word!r}: accepted are {_accepted()}")
        earlier = said.setdefault(_ATTRIBUTE_OF[word], word)
        if earlier != word:
            raise ValueError(f"style words {earlier!r} and {word!r} together: accepted is one of {_accepted()}")
    return tuple(said.values())


def describe_style(words: Sequence[str]) -> str:
    """The description as the Talker reads it."""
    return ", ".join(words)


def attribute_of(word: str) -> str:
    """`rate`, `pitch` or `level`."""
    return _ATTRIBUTE_OF[word]


def _accepted() -> str:
    return "; ".join(" or ".join(pair) for pair in OPPOSITES.values())
