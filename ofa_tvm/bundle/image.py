"""From an image file to a library's input, as the manifest describes it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ofa_tvm.bundle.manifest import InputSection
from ofa_tvm.errors import InvalidImageError


def load_image(path: Path, record: InputSection) -> npt.NDArray[np.float32]:
    """Decode, resize and normalise an image.

    Returns
    -------
    numpy.ndarray
        float32, of the shape that `record` names: (1, 3, height, width), colours in the order RGB.

    Raises
    ------
    InvalidImageError
        The file is missing, is no image, is damaged, or would decode to an enormous one.
    """
    _, _, height, width = record.shape
    pixels = np.asarray(_decode(path).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    low, high = record.value_range
    scaled = pixels / 255 * (high - low) + low
    normalised = (scaled - np.asarray(record.mean, np.float32)) / np.asarray(record.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[np.newaxis], np.float32)


def _decode(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow only warns of an image between its limit of pixels and twice that.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                return image.convert("RGB")
        except FileNotFoundError as error:
            raise InvalidImageError(f"no image {path}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise InvalidImageError(
                f"{path} has more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down before classifying it"
            ) from error
        # What Pillow's decoders raise on damaged files, beside OSError (which UnidentifiedImageError is).
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise InvalidImageError(f"{path} is no image that can be read: {error}; use a PNG or JPEG") from error
