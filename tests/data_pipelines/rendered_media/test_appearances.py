"""What is drawn looks different from everything else, and what is held out is made of what is not."""

import itertools

import numpy as np
import pytest

from data_pipelines.rendered_media.appearances import (
    COLOURS,
    SHAPES,
    Figure,
    Writing,
    draw_appearance,
    draw_background,
    figures,
)


def drawn(shown, seed=0, side=64):
    rng = np.random.default_rng(seed)
    image = draw_background(rng, side)
    ground = np.asarray(image).copy()
    draw_appearance(image, shown, (0, 0, side), rng)
    return np.asarray(image), ground


def test_each_colour_and_each_shape_is_trained_but_some_pairs_are_not():
    trained, held_out = figures(False), figures(True)
    assert not set(trained) & set(held_out)
    assert len(trained) + len(held_out) == len(COLOURS) * len(SHAPES)
    for part in (trained, held_out):
        assert {figure.colour for figure in part} == set(COLOURS)
        assert {figure.shape for figure in part} == set(SHAPES)


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_stand_out_and_are_themselves(colour):
    image, ground = drawn(Figure(colour, "square"))
    changed = (image != ground).any(axis=-1)
    assert 0.1 < changed.mean() < 0.9
    assert np.abs(image[changed].astype(int) - ground[changed]).max(axis=-1).min() > 60


def test_shapes_differ_in_what_they_cover():
    covered = [(lambda pair: (pair[0] != pair[1]).any(axis=-1))(drawn(Figure("red", shape))) for shape in SHAPES]
    for one, two in itertools.combinations(covered, 2):
        assert np.mean(one != two) > 0.02


@pytest.mark.parametrize("text", ["alpha", "november uniform wednesday", "two red ten"])
@pytest.mark.parametrize("side", [64, 128])
def test_writing_fits_its_box(text, side):
    for seed in range(5):
        image, ground = drawn(Writing("white", text), seed, side)
        changed = (image != ground).any(axis=-1)
        assert changed.any()
        for edge in (changed[0], changed[-1], changed[:, 0], changed[:, -1]):
            assert not edge.any()
