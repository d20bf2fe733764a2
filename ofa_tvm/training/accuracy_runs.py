"""Which subnets to measure the accuracy of, and measuring those that have no record yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ofa_tvm.reporting import Reporter, Silent
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.accuracy_files import AccuracyFiles
from ofa_tvm.supernet.metadata import SupernetFolder
from ofa_tvm.training.records import (
    CALIBRATION_IMAGES,
    HELD_OUT_IMAGES,
    AccuracyRecord,
    append_accuracy_record,
    comparable_records,
)


def subnets_to_measure(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """The smallest and the largest subnet at each resolution, then random ones; always the same for a seed.

    Raises
    ------
    InvalidArchitectureError
        The space has fewer.
    """
    extremes = [pick(resolution) for resolution in space.resolutions for pick in (space.smallest, space.largest)]
    return space.sample_distinct(count, seed, first=extremes)


@dataclass(frozen=True)
class AccuracyRun:
    """Measuring subnets of one supernet, all on the same images.

    Attributes
    ----------
    files
        Where records are read, and where new ones are appended.
    images, calibration_images
        Held-out images a subnet, and those its BN statistics are computed on. Records on other counts stay aside:
        they measure another quantity.
    threads
        CPU threads.
    """

    folder: SupernetFolder
    files: AccuracyFiles
    images: int = HELD_OUT_IMAGES
    calibration_images: int = CALIBRATION_IMAGES
    threads: int = 1

    def records(self) -> list[AccuracyRecord]:
        """All that count, those the supernet came with first.

        Raises
        ------
        InvalidRecordError
            A line of a file is not an accuracy record.
        """
        digest = self.folder.metadata.weights_sha256
        return comparable_records(self.files.all_records, digest, self.images, self.calibration_images)

    def left(self, architectures: Iterable[Architecture]) -> list[Architecture]:
        """Those without a record, each once.

        Raises
        ------
        InvalidRecordError
            A line of a file is not an accuracy record.
        """
        measured = {record.architecture for record in self.records()}
        return [architecture for architecture in dict.fromkeys(architectures) if architecture not in measured]

    def measure(self, architectures: Iterable[Architecture], reporter: Reporter | None = None) -> None:
        """Measure those without a record; each is kept at once, so that an interrupted run goes on where it stopped.

        Raises
        ------
        InvalidCheckpointError
            The supernet's weights are missing, damaged or foreign.
        InvalidArchitectureError
            An architecture is not of the supernet's space.
        InvalidRecordError
            A line of a file is not an accuracy record.
        NumericalMismatchError
            A subnet gives logits that are NaN or infinite.
        OutputError
            The records can't be written.
        """
        left = self.left(architectures)
        if not left:
            return
        from ofa_tvm.training.evaluation import Evaluator  # torch takes its time

        evaluator = Evaluator(self.folder, self.calibration_images, self.images, self.threads)
        with (reporter or Silent()).progress(len(left), "subnets") as bar:
            for architecture in left:
                append_accuracy_record(self.files.records, evaluator.accuracy(architecture))
                bar.advance()
