"""Image sizes: whole tokens, an area within its limits, a shape kept as far as these allow."""

import dataclasses

from hypothesis import assume, given
from hypothesis import strategies as st
import numpy as np
import pytest

from qomni_jax.config.vision import ImageConfig
from qomni_jax.vision.resize import resize, smart_resize

CONFIG = ImageConfig()
SMALL = ImageConfig(min_pixels=2000, max_pixels=20_000)


@given(height=st.integers(1, 10_000), width=st.integers(1, 10_000))
def test_sides_divide_into_tokens_and_the_area_is_within_its_limits(height, width):
    assume(max(height, width) <= 200 * min(height, width))
    for config in (CONFIG, SMALL):
        new = smart_resize(height, width, config)
        assert all(side > 0 and side % 32 == 0 for side in new)
        assert config.min_pixels <= new[0] * new[1] <= config.max_pixels
        assert smart_resize(*new, config) == new or max(new) > 200 * min(new)
        if all(side >= 320 for side in new):  # rounding a side to 32 changes it by a tenth at most
            assert new[1] / new[0] == pytest.approx(width / height, rel=0.25)


def test_known_sizes():
    assert smart_resize(240, 360, CONFIG) == (256, 352)
    assert smart_resize(720, 1280, CONFIG) == (704, 1280)  # 22.5 and 40 tokens: halves go to the even number
    assert smart_resize(10, 10, CONFIG) == (64, 64)
    assert smart_resize(8000, 6000, CONFIG) == (4128, 3072)


def test_resizing_keeps_what_a_uniform_image_shows():
    image = np.full((30, 50, 3), (10, 200, 90), np.uint8)
    np.testing.assert_array_equal(resize(image, (64, 96)), np.broadcast_to(image[:1, :1], (64, 96, 3)))


def test_what_is_not_accepted_is_named():
    with pytest.raises(ValueError, match=r"image of 1 x 201 pixels: accepted is .* at most 200 times the shorter"):
        smart_resize(1, 201, CONFIG)
    with pytest.raises(ValueError, match="image of 0 x 5"):
        smart_resize(0, 5, CONFIG)
    with pytest.raises(ValueError, match=r"image float32 \(4, 4, 3\): accepted is uint8"):
        resize(np.zeros((4, 4, 3), np.float32), (32, 32))
    with pytest.raises(ValueError, match="max_pixels = 4000: accepted is 12544 or more"):
        dataclasses.replace(CONFIG, max_pixels=4000)
