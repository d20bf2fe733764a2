"""One image in all forms that files give it: the same pixels come out."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from ofa_tvm import images
from ofa_tvm.errors import InvalidImageError
from ofa_tvm.images import pixels_of, read_image

ORIENTATION = 0x0112
# What a file does so that the tag undoes it: the inverse of each of EXIF's eight orientations.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """(17, 31) uint8, no two of its orientations alike, all values in it."""
    return (np.arange(17 * 31).reshape(17, 31) * 255 // (17 * 31 - 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def colours(grey: np.ndarray) -> np.ndarray:
    """(17, 31, 3) uint8."""
    return np.stack([grey, 255 - grey, grey[::-1]], axis=2)


def _read(image: Image.Image, path, **options) -> np.ndarray:
    image.save(path, **options)
    return np.asarray(read_image(path))


def _rgb(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=2)


@pytest.mark.parametrize("factor", [256, 257])
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_a_grey_of_16_bits_loses_its_lower_half(tmp_path, grey, suffix, factor):
    found = _read(Image.fromarray(grey.astype(np.uint16) * factor), tmp_path / f"image.{suffix}")
    np.testing.assert_array_equal(found, _rgb(grey))


def test_a_big_endian_tiff_of_16_bits(tmp_path, grey):
    stored = Image.frombytes("I;16B", (31, 17), (grey.astype(">u2") * 257).tobytes())
    np.testing.assert_array_equal(_read(stored, tmp_path / "image.tif"), _rgb(grey))


def test_a_transparent_value_of_16_bits(tmp_path, grey):
    found = _read(Image.fromarray(grey.astype(np.uint16) * 257), tmp_path / "image.png", transparency=5 * 257)
    np.testing.assert_array_equal(found, _rgb(np.where(grey == 5, 255, grey)))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_32_bits_are_refused(tmp_path, grey, mode):
    path = tmp_path / "image.tif"
    with pytest.raises(InvalidImageError, match=f"pixels of 32 bits .mode {mode}., of an unknown scale; use 8 or 16"):
        _read(Image.fromarray(grey).convert(mode), path)


def test_alpha_is_composited_on_white(tmp_path, grey, colours):
    alpha = np.linspace(0, 255, grey.size).reshape(grey.shape).astype(np.uint8)
    share = alpha[..., None] / 255
    expected = colours * share + 255 * (1 - share)
    found = _read(Image.fromarray(np.dstack([colours, alpha])), tmp_path / "rgba.png")
    np.testing.assert_allclose(found, expected, atol=1.5)
    found = _read(Image.fromarray(np.dstack([grey, alpha])), tmp_path / "la.png")
    np.testing.assert_allclose(found, _rgb(grey) * share + 255 * (1 - share), atol=1.5)


def test_an_opaque_alpha_changes_nothing(tmp_path, colours):
    stored = Image.fromarray(np.dstack([colours, np.full(colours.shape[:2], 255, np.uint8)]))
    np.testing.assert_array_equal(_read(stored, tmp_path / "image.png"), colours)


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_transparent_colour_of_a_palette(tmp_path, grey, suffix):
    found = _read(Image.fromarray(grey).convert("P"), tmp_path / f"image.{suffix}", transparency=0)
    np.testing.assert_array_equal(found, _rgb(np.where(grey == 0, 255, grey)))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_without_a_palette(tmp_path, grey, mode):
    clear = 7 if mode == "L" else (7, 7, 7)
    found = _read(Image.fromarray(grey).convert(mode), tmp_path / "image.png", transparency=clear)
    np.testing.assert_array_equal(found, _rgb(np.where(grey == 7, 255, grey)))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_the_orientation_is_applied(tmp_path, colours, orientation, suffix):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(colours).transpose(STORED[orientation])
    options = {"lossless": True} if suffix == "webp" else {}
    np.testing.assert_array_equal(_read(stored, tmp_path / f"image.{suffix}", exif=exif, **options), colours)


def test_the_orientation_of_a_grey_of_16_bits_and_of_a_transparent_image(tmp_path, grey):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    deep = Image.fromarray(np.ascontiguousarray(np.rot90(grey.astype(np.uint16) * 257)))
    np.testing.assert_array_equal(_read(deep, tmp_path / "deep.png", exif=exif), _rgb(grey))
    clear = Image.fromarray(np.ascontiguousarray(np.rot90(grey))).convert("P")
    found = _read(clear, tmp_path / "clear.png", exif=exif, transparency=0)
    np.testing.assert_array_equal(found, _rgb(np.where(grey == 0, 255, grey)))


def test_cmyk_and_black_and_white(tmp_path, colours, grey):
    found = _read(Image.fromarray(colours).convert("CMYK"), tmp_path / "image.tif")
    np.testing.assert_allclose(found, colours, atol=1)
    found = _read(Image.fromarray(grey).convert("1"), tmp_path / "bits.png")
    assert set(np.unique(found)) == {0, 255}


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
def test_the_first_of_several_frames_counts(tmp_path, grey, suffix):
    frames = [Image.fromarray(frame) for frame in (grey, 255 - grey)]
    options = {"lossless": True} if suffix == "webp" else {}
    found = _read(frames[0], tmp_path / f"image.{suffix}", save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(found, _rgb(grey))


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_cut_file_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"image.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InvalidImageError, match=f"{re.escape(str(path))} is no image that can be read"):
        read_image(path)


def test_whatever_a_decoder_raises_is_one_error(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.new("L", (2, 2)).save(path)

    def broken(image):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(images.ImageOps, "exif_transpose", broken)
    with pytest.raises(InvalidImageError, match="is no image that can be read: division by zero"):
        read_image(path)


def test_pixels_are_resized_and_float32(colours):
    pixels = pixels_of(Image.fromarray(colours), 8, 9)
    assert (pixels.dtype, pixels.shape) == (np.float32, (8, 9, 3))
    assert pixels.max() > 200
