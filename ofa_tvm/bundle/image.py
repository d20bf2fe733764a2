"""From an image file to a library's input, as the manifest describes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ofa_tvm.bundle.manifest import InputSection
from ofa_tvm.images import pixels_of, read_image


def load_image(path: Path, record: InputSection) -> npt.NDArray[np.float32]:
    """Decode, resize and normalise an image.

    Returns
    -------
    numpy.ndarray
        float32, of the shape that `record` names: (1, 3, height, width), colours in the order RGB.

    Raises
    ------
    InvalidImageError
        As of `ofa_tvm.images.read_image`.
    """
    _, _, height, width = record.shape
    pixels = pixels_of(read_image(path), height, width)
    low, high = record.value_range
    scaled = pixels / 255 * (high - low) + low
    normalised = (scaled - np.asarray(record.mean, np.float32)) / np.asarray(record.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[np.newaxis], np.float32)
