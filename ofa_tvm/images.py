"""Image files as RGB pixels, for whoever runs subnets and whoever trains them: both must see the same image.

What a file holds beside plain 8-bit colours is decided here, and in docs/bundle.md:

- EXIF's orientation is applied: a photograph is seen as its viewer shows it.
- Transparency is composited on white, the page that a drawing with a transparent ground is made for.
- Greys of 16 bits lose their lower 8. Pillow reads 16-bit colours as 8-bit ones itself.
- Of several frames or pages, the first counts.
- Pixels of 32 bits, integers or floats, have no white that a file would name, and are refused.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ofa_tvm.errors import InvalidImageError

GROUND = (255, 255, 255)
"""The colour behind what is transparent."""

# Pillow's own opener of 16-bit grey PNG, PGM and TIFF; some of its versions call the first of them I.
_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_GREY_16_FORMATS = ("PNG", "PPM")
_UNSCALED = ("I", "F")


def read_image(path: Path) -> Image.Image:
    """Decode an image file: mode RGB, upright, without transparency.

    Raises
    ------
    InvalidImageError
        The file is missing, is no image, is damaged, would decode to an enormous one, or has pixels of 32 bits.
    """
    with warnings.catch_warnings():
        # Pillow only warns of an image between its limit of pixels and twice that.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                image.load()
                return _opaque(ImageOps.exif_transpose(_of_8_bits(image, path)))
        except FileNotFoundError as error:
            raise InvalidImageError(f"no image {path}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
            raise InvalidImageError(
                f"{path} has more than {Image.MAX_IMAGE_PIXELS} pixels, or does not fit in memory; scale it down"
            ) from error
        except InvalidImageError:
            raise
        except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
            raise InvalidImageError(f"{path} is no image that can be read: {error}; use a PNG or JPEG") from error


def pixels_of(image: Image.Image, height: int, width: int) -> npt.NDArray[np.float32]:
    """An RGB image resized (bilinear, with antialiasing): float32 (height, width, 3), 0 to 255."""
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)


def _of_8_bits(image: Image.Image, path: Path) -> Image.Image:
    """The image as it is, or its grey of 16 bits scaled to 8; its EXIF data and transparency stay with it."""
    if image.mode in _GREY_16 or (image.mode == "I" and image.format in _GREY_16_FORMATS):
        # Not convert("L"), which clips at 255.
        values = np.asarray(image, np.int64).clip(0, 65535)
        scaled = Image.fromarray((values >> 8).astype(np.uint8))
        if isinstance(clear := image.info.get("transparency"), int):
            scaled.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        scaled.info = {key: value for key, value in image.info.items() if key != "transparency"}
        return scaled
    if image.mode in _UNSCALED:
        raise InvalidImageError(f"{path} has pixels of 32 bits (mode {image.mode}), of an unknown scale; use 8 or 16")
    return image


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, (*GROUND, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
