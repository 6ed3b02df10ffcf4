"""What is shown: coloured shapes and written words; which of them belong to held-out splits; how they are drawn."""

import dataclasses
import functools
import itertools
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_pipelines.speech_corpus.grammar import VOCABULARIES

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "star")
# The colours of which the grammar's sentences speak too: what is heard is not what is seen.
COLOURS = VOCABULARIES["en"].colours
_RGB = {
    "red": (220, 30, 30),
    "blue": (40, 60, 230),
    "green": (20, 150, 50),
    "yellow": (245, 225, 40),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
_GREYS = (105, 150)  # of backgrounds: every colour stands out from them
_LINE = 1.3  # height of a line of text, in font sizes, generously
# Corners on the unit circle, by turns from the top.
_TRIANGLE, _DIAMOND, _STAR = 3, 4, 5


@dataclasses.dataclass(frozen=True)
class Figure:
    """A shape in a colour."""

    colour: str
    shape: str

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def phrase(self) -> str:
        """What a question calls it."""
        return self.name


@dataclasses.dataclass(frozen=True)
class Writing:
    """Words, one a line, in a colour."""

    colour: str
    text: str

    @property
    def name(self) -> str:
        return self.text

    @property
    def phrase(self) -> str:
        """What a question calls it."""
        return f"word {self.text}"


Appearance = Figure | Writing


def figures(held_out: bool) -> tuple[Figure, ...]:
    """The shapes of splits with or without `held_out`: one colour of each shape, and one shape of each colour, is held
    out, so that both have been seen, only not together."""
    pairs = itertools.product(enumerate(COLOURS), enumerate(SHAPES))
    return tuple(Figure(colour, shape) for (i, colour), (j, shape) in pairs if ((i + j) % len(SHAPES) == 0) == held_out)


def draw_background(rng: np.random.Generator, side: int) -> Image.Image:
    """A grey square."""
    return Image.new("RGB", (side, side), (int(rng.integers(*_GREYS)),) * 3)


def draw_appearance(
    image: Image.Image, shown: Appearance, box: tuple[float, float, float], rng: np.random.Generator
) -> None:
    """Draws into the square `box` (left, top, side), in pixels, at a size and place of its own."""
    left, top, side = box
    width = height = side * rng.uniform(0.6, 0.9)
    lines = shown.text.split() if isinstance(shown, Writing) else []
    if lines:
        font = _font(int(width / max(_LINE * len(lines), *map(_width, lines))))
        # Letters stand on whole pixels, so small ones are wider than large ones made small.
        width, height = max(map(font.getlength, lines)), _LINE * len(lines) * font.size
    x = left + side / 2 + rng.uniform(-0.5, 0.5) * (side - width)
    y = top + side / 2 + rng.uniform(-0.5, 0.5) * (side - height)
    draw, colour = ImageDraw.Draw(image), _RGB[shown.colour]
    if isinstance(shown, Writing):
        draw.multiline_text((x, y), "\n".join(lines), colour, font, "mm", 0, "center")
        return
    radius = width / 2
    if shown.shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    elif shown.shape == "square":
        half = 0.8 * radius
        draw.rectangle((x - half, y - half, x + half, y + half), colour)
    elif shown.shape == "cross":
        arm = 0.3 * radius
        draw.rectangle((x - radius, y - arm, x + radius, y + arm), colour)
        draw.rectangle((x - arm, y - radius, x + arm, y + radius), colour)
    else:
        draw.polygon([(x + radius * across, y + radius * down) for across, down in _corners(shown.shape)], colour)


def _corners(shape: str) -> list[tuple[float, float]]:
    if shape == "star":
        turns = [(number / (2 * _STAR), 1.0 if number % 2 == 0 else 0.42) for number in range(2 * _STAR)]
    else:
        count = _TRIANGLE if shape == "triangle" else _DIAMOND
        turns = [(number / count, 1.0) for number in range(count)]
    return [(far * math.sin(2 * math.pi * turn), -far * math.cos(2 * math.pi * turn)) for turn, far in turns]


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font, which needs no file.
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


@functools.cache
def _width(text: str) -> float:
    """Of a line, in font sizes."""
    return _font(100).getlength(text) / 100
