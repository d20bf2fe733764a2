"""Run a bundle in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ofa_tvm.bundle.files import check_file
from ofa_tvm.bundle.host import check_host
from ofa_tvm.bundle.image import load_image
from ofa_tvm.bundle.manifest import LIBRARY, read_manifest
from ofa_tvm.bundle.runtime import Float32Array, load_main
from ofa_tvm.errors import InvalidBundleError, UsageError


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """A class and its softmax probability."""

    name: str
    probability: float


class BundleRunner:
    """A bundle's library, loaded.

    Raises
    ------
    InvalidBundleError
        The manifest or the library is missing, damaged, or for another CPU.
    """

    def __init__(self, directory: Path) -> None:
        self.manifest = read_manifest(directory)
        check_file(directory, LIBRARY, self.manifest)
        check_host(directory, self.manifest)
        self._main = load_main(directory / LIBRARY, self.manifest.target.threads)

    def preprocess(self, image: Path) -> Float32Array:
        """The input for an image file, float32 (1, 3, height, width).

        Raises
        ------
        InvalidImageError
            The file is no image.
        """
        return load_image(image, self.manifest.input)

    def run(self, array: Float32Array) -> Float32Array:
        """Logits, float32 (1, classes), of an input as `preprocess` gives it.

        Raises
        ------
        UsageError
            The array has another shape.
        InvalidBundleError
            The library fails, or its output is not what the manifest says.
        """
        if array.shape != self.manifest.input.shape:
            raise UsageError(f"an input of shape {array.shape}: this bundle takes {self.manifest.input.shape}")
        output = self._main(array)
        if output.shape != self.manifest.output.shape:
            raise InvalidBundleError(
                f"the library's output has the shape {output.shape}, the manifest says {self.manifest.output.shape}; "
                "write the bundle again"
            )
        return output

    def classify(self, image: Path, top: int = 5) -> list[ClassProbability]:
        """The `top` most probable classes of an image file, the most probable first.

        Raises
        ------
        InvalidImageError
            The file is no image.
        """
        logits = self.run(self.preprocess(image))[0].astype(np.float64)
        exponentials = np.exp(logits - logits.max())
        probabilities = exponentials / exponentials.sum()
        best = np.argsort(-probabilities, kind="stable")[:top]
        return [ClassProbability(self.manifest.class_names[index], float(probabilities[index])) for index in best]
