"""Images of every kind arrive as upright 8-bit RGB, transparency over white."""

import io

import numpy as np
from PIL import Image
import pytest

from data_pipelines.media.errors import MediaError
from data_pipelines.media.image import image_size, read_image
from data_pipelines.media.probe import probe

RED, WHITE = (255, 0, 0), (255, 255, 255)


def pattern(height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def check(path) -> np.ndarray:
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.shape == (*image_size(path), 3)
    info = probe(path)
    assert (info.kind, info.height, info.width, info.num_samples) == ("image", *image.shape[:2], 0)
    return image


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.webp", {"lossless": True})])
def test_lossless_images_come_back(tmp_path, name, options):
    Image.fromarray(pattern()).save(tmp_path / name, **options)
    np.testing.assert_array_equal(check(tmp_path / name), pattern())


@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "RGB"), ("a.jpg", "L"), ("a.jpg", "CMYK"), ("a.webp", "RGB")])
def test_lossy_images_come_close(tmp_path, name, mode):
    Image.new("RGB", (16, 8), (200, 200, 200)).convert(mode).save(tmp_path / name)
    np.testing.assert_allclose(check(tmp_path / name), 200, atol=3)


def test_orientation_is_applied(tmp_path):
    stored = pattern(4, 6)
    for name in ("a.png", "a.webp"):
        for orientation, expected in {
            1: stored,
            2: stored[:, ::-1],
            3: stored[::-1, ::-1],
            4: stored[::-1],
            5: stored.swapaxes(0, 1),
            6: np.rot90(stored, -1),
            7: np.rot90(stored, 2).swapaxes(0, 1),
            8: np.rot90(stored),
            9: stored,
        }.items():
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.fromarray(stored).save(tmp_path / name, exif=exif, lossless=True)
            np.testing.assert_array_equal(check(tmp_path / name), expected, err_msg=f"orientation {orientation}")


def test_a_jpeg_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:, 16:] = 255
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif)
    image = check(tmp_path / "a.jpg")
    assert image.shape == (32, 16, 3)
    np.testing.assert_allclose(image[24:], 255, atol=3)


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_transparency_is_laid_over_white(tmp_path, name):
    pixels = np.array([[(*RED, 255), (*RED, 0), (0, 0, 0, 51)]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / name, lossless=True)
    np.testing.assert_array_equal(check(tmp_path / name), [[RED, WHITE, (204, 204, 204)]])


def test_palettes_with_and_without_transparency(tmp_path):
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    palette.putpalette([*RED, 0, 0, 255])
    palette.save(tmp_path / "a.png")
    np.testing.assert_array_equal(check(tmp_path / "a.png"), [[RED, (0, 0, 255)], [(0, 0, 255), RED]])
    palette.save(tmp_path / "a.png", transparency=1)
    np.testing.assert_array_equal(check(tmp_path / "a.png"), [[RED, WHITE], [WHITE, RED]])


def test_grey_bilevel_and_16_bits(tmp_path):
    values = np.array([[0, 1, 255, 256, 32_768, 65_535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(check(tmp_path / "a.png")[0, :, 0], [0, 0, 0, 1, 128, 255])
    Image.fromarray(np.array([[0, 77, 255]], np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(check(tmp_path / "a.png")[0, :, 1], [0, 77, 255])
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(check(tmp_path / "a.png")[0, :, 2], [0, 255])
    grey = np.array([[(0, 255), (77, 0)]], np.uint8)
    Image.fromarray(grey, "LA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(check(tmp_path / "a.png")[0, :, 2], [0, 255])


def test_the_first_picture_of_an_animation(tmp_path):
    first, second = (Image.new("RGB", (4, 4), colour) for colour in (RED, "blue"))
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(check(tmp_path / "a.webp"), np.broadcast_to(np.array(RED), (4, 4, 3)))


def test_the_name_says_nothing(tmp_path):
    Image.fromarray(pattern()).save(tmp_path / "a.wav", format="png")
    np.testing.assert_array_equal(check(tmp_path / "a.wav"), pattern())


def encoded(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pattern(48, 64)).save(buffer, format=name)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_cut_images_are_refused(tmp_path, name, kept):
    data = encoded(name)
    path = tmp_path / f"a.{name}"
    path.write_bytes(data[: max(int(len(data) * kept), 20)])
    with pytest.raises(
        MediaError, match=f"a.{name}' is a cut or damaged {name} image .*: accepted is a complete png"
    ) as info:
        read_image(path)
    assert "\n" not in str(info.value)


def test_a_damaged_png_is_refused(tmp_path):
    data = bytearray(encoded("png"))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(MediaError, match="damaged png image"):
        read_image(path)


def test_too_many_pixels_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = tmp_path / "a.png"
    Image.fromarray(pattern()).save(path)
    with pytest.raises(MediaError, match="has too many pixels: accepted is"):
        read_image(path)
