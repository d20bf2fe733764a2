"""Calibrated subnets of a supernet, and their measured accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from ofa_tvm.errors import NumericalMismatchError
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.calibration import calibrate
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.metadata import SupernetFolder
from ofa_tvm.supernet.subnet import Subnet
from ofa_tvm.training.characters import ImageSet
from ofa_tvm.training.memory_layout import channels_last
from ofa_tvm.training.records import CALIBRATION_IMAGES, HELD_OUT_IMAGES, AccuracyRecord

_BATCH = 250

Classify = Callable[[torch.Tensor], torch.Tensor]
"""From normalised images `(N, 3, R, R)` float32 to logits `(N, classes)`."""


class Evaluator:
    """Extracts, calibrates and measures subnets of one supernet; images are rendered once a resolution.

    Raises
    ------
    InvalidCheckpointError
        On creation: the supernet's weights are missing, damaged or foreign.
    """

    def __init__(
        self,
        folder: SupernetFolder,
        calibration_images: int = CALIBRATION_IMAGES,
        held_out_images: int = HELD_OUT_IMAGES,
        threads: int = 1,
    ) -> None:
        torch.set_num_threads(threads)
        self._metadata = folder.metadata
        self._supernet = load_supernet(folder)
        self._calibration_images = calibration_images
        self._held_out_images = held_out_images
        self._image_sets: dict[tuple[int, int, int], ImageSet] = {}

    @property
    def space(self) -> SearchSpace:
        """The supernet's search space."""
        return self._metadata.space

    @property
    def batches(self) -> int:
        """How often `calibrated` and `accuracy` together tell of a batch."""
        return math.ceil(self._calibration_images / _BATCH) + math.ceil(self._held_out_images / _BATCH)

    def calibrated(self, architecture: Architecture, on_batch: Callable[[], None] = lambda: None) -> Subnet:
        """The stand-alone subnet with BN statistics of its own; `on_batch` is called before each batch of images.

        Raises
        ------
        InvalidArchitectureError
            The architecture is not of the supernet's space.
        """
        subnet = self._supernet.extract(architecture)
        images = self._image_set(
            self._metadata.data.calibration_seed, self._calibration_images, architecture.resolution
        )

        def told() -> Iterator[torch.Tensor]:
            for batch, _ in images.batches(_BATCH):
                on_batch()
                yield batch

        calibrate(subnet, told())
        return subnet

    @torch.no_grad()
    def accuracy(
        self,
        architecture: Architecture,
        classify: Classify | None = None,
        on_batch: Callable[[], None] = lambda: None,
    ) -> AccuracyRecord:
        """Measure a subnet on held-out images.

        Parameters
        ----------
        classify
            Computes its logits in PyTorch's place: what is given to a device, which is faster, too.
        on_batch
            Called after each batch of held-out images.

        Raises
        ------
        InvalidArchitectureError
            The architecture is not of the supernet's space.
        NumericalMismatchError
            A logit is NaN or infinite.
        """
        classify = classify or channels_last(self.calibrated(architecture))
        held_out = self.held_out(architecture.resolution)
        hits = 0
        for images, labels in held_out.batches(_BATCH):
            logits = classify(images)
            if not logits.isfinite().all():  # argmax takes NaN for the largest: an accuracy of chance, and no error
                raise NumericalMismatchError(
                    f"{architecture} gives logits that are NaN or infinite: weights of no use; train again"
                )
            hits += int((logits.argmax(1) == labels).sum())
            on_batch()
        return AccuracyRecord(
            architecture=architecture,
            accuracy=hits / self._held_out_images,
            images=self._held_out_images,
            calibration_images=self._calibration_images,
            weights_sha256=self._metadata.weights_sha256,
        )

    def held_out(self, resolution: int) -> ImageSet:
        """The held-out images at one resolution."""
        return self._image_set(self._metadata.data.held_out_seed, self._held_out_images, resolution)

    def sample(self, resolution: int) -> torch.Tensor:
        """The first held-out image at one resolution, normalised: shape (1, 3, resolution, resolution) float32."""
        images, _ = next(self.held_out(resolution).batches(1))
        return images

    def _image_set(self, seed: int, count: int, resolution: int) -> ImageSet:
        key = (seed, count, resolution)
        if key not in self._image_sets:
            self._image_sets[key] = ImageSet.render(seed, count, resolution, self._metadata.mean, self._metadata.std)
        return self._image_sets[key]
