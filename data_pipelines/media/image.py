"""Still images as RGB: upright, 8 bits a channel, transparency over white."""

from collections.abc import Iterator
import contextlib

import numpy as np
from PIL import Image

from data_pipelines.media.containers import IMAGES, media_format
from data_pipelines.media.errors import IMAGE, MediaError
from data_pipelines.media.sources import Source, open_source

_ORIENTATION_TAG = 0x0112
# What turns a stored image upright, by its EXIF orientation; 1 is upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source: Source) -> np.ndarray:
    """A png, jpeg or webp image as shown, uint8 RGB `[height, width, 3]`.

    Turned as its EXIF orientation says (for png, where it stands before the pixels). Transparent pixels are laid over
    white. Of 16 bits a channel the upper 8 are kept. An animation gives its first picture. Colour profiles are not
    applied.

    Raises:
      MediaError: the file is missing, empty, no such image, cut short, damaged, or of more than 178 million pixels
        (Pillow's guard against images that fill the memory).
    """
    with _opened(source) as image:
        orientation = _orientation(image)
        return np.array(_as_rgb(image).transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else _as_rgb(image))


def image_size(source: Source) -> tuple[int, int]:
    """(height, width) of what `read_image` gives, from the headers alone.

    Raises:
      MediaError: as `read_image`, but for damage behind the headers.
    """
    with _opened(source) as image:
        return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[Image.Image]:
    """The image, not yet decoded; what Pillow raises inside the `with` becomes a MediaError."""
    name = media_format(source, IMAGE)
    if name not in IMAGES:
        raise MediaError(source, f"is a {name} file", IMAGE)
    try:
        with open_source(source) as file, Image.open(file, formats=(name,)) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise MediaError(source, "has too many pixels", IMAGE) from error
    # Pillow's decoders raise these four for what is cut short or damaged.
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise MediaError(source, f"is a cut or damaged {name} image ({error})", IMAGE) from error


def _orientation(image: Image.Image) -> int:
    exif = Image.Exif()
    exif.load(image.info.get("exif", b""))
    orientation = exif.get(_ORIENTATION_TAG, 1)
    return orientation if orientation in _UPRIGHT else 1


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        coloured = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured).convert("RGB")
    return image.convert("RGB")
