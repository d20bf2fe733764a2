from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from ofa_tvm import images
from ofa_tvm.bundle.runner import BundleRunner
from ofa_tvm.errors import InvalidBundleError, InvalidImageError, UsageError

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def runner(pristine):
    return BundleRunner(pristine)


def _expected_input(path):
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float64)
    return ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1)[None]


def test_an_image_is_normalised_as_the_manifest_says(runner, image):
    array = runner.preprocess(image)
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, _expected_input(image), rtol=1e-5, atol=1e-6)


def test_the_library_computes_what_numpy_does(runner, image, weights):
    logits = runner.run(runner.preprocess(image))
    np.testing.assert_allclose(logits, _expected_input(image).reshape(1, -1) @ weights, rtol=1e-4, atol=1e-4)


def test_classes_come_with_softmax_probabilities(runner, image, weights):
    logits = (_expected_input(image).reshape(1, -1) @ weights)[0]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    best = np.argsort(-probabilities)[:3]
    found = runner.classify(image, top=3)
    assert [item.name for item in found] == [("ant", "bee", "[cat]", "dog", "elk")[index] for index in best]
    np.testing.assert_allclose([item.probability for item in found], probabilities[best], rtol=1e-3)
    assert len(runner.classify(image, top=99)) == 5


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_other_colour_modes_and_sizes_are_converted(runner, tmp_path, mode):
    path = tmp_path / f"image.{'jpg' if mode == 'CMYK' else 'png'}"
    Image.new("RGB", (31, 17), (200, 100, 50)).convert(mode).save(path)
    assert runner.preprocess(path).shape == (1, 3, 8, 8)


def test_one_image_in_other_forms_is_classified_alike(runner, tmp_path):
    plain = Image.effect_mandelbrot((24, 24), (-2, -1.5, 1, 1.5), 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    plain.save(tmp_path / "plain.png")
    plain.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.asarray(plain, np.uint16) * 257).save(tmp_path / "deep.png")
    white = np.asarray(plain) == 255
    drawing = np.dstack([np.where(white, 0, plain), np.where(white, 0, 255)]).astype(np.uint8)
    assert white.any()
    Image.fromarray(drawing).save(tmp_path / "clear.png")
    expected, *others = (runner.classify(tmp_path / f"{name}.png") for name in ("plain", "turned", "deep", "clear"))
    assert others == [expected] * 3


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(64), b"<svg></svg>"])
def test_a_file_that_is_no_image(runner, tmp_path, content):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(InvalidImageError, match=re.escape(str(path))):
        runner.classify(path)


def test_a_truncated_image(runner, image):
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidImageError, match="is no image that can be read"):
        runner.classify(image)


def test_no_image_and_a_directory(runner, tmp_path):
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(InvalidImageError, match="no image"):
            runner.classify(path)


@pytest.mark.parametrize("pixels", [6, 12])
def test_a_decompression_bomb_is_refused(runner, image, monkeypatch, pixels):
    monkeypatch.setattr(images.Image, "MAX_IMAGE_PIXELS", 64 * 6 // pixels // 2)
    with pytest.raises(InvalidImageError, match="scale it down"):
        runner.classify(image)


def test_an_input_of_another_shape_is_the_callers_mistake(runner):
    with pytest.raises(UsageError, match=r"shape \(1, 3, 4, 4\): this bundle takes \(1, 3, 8, 8\)"):
        runner.run(np.zeros((1, 3, 4, 4), np.float32))


def test_a_damaged_library_is_not_loaded(bundle):
    with (bundle / "library.so").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(InvalidBundleError, match=r"library\.so was altered"):
        BundleRunner(bundle)


def test_the_bundle_can_be_moved(bundle, tmp_path, image, runner):
    moved = shutil.move(bundle, tmp_path / "with space")
    assert BundleRunner(moved).classify(image) == runner.classify(image)
