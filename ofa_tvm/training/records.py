"""Accuracy records: what subnets of a supernet were measured to achieve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofa_tvm.errors import InvalidArchitectureError, InvalidRecordError
from ofa_tvm.files import append_json_line, read_json_lines
from ofa_tvm.space.architecture import Architecture

CALIBRATION_IMAGES = 2000  # as upstream
HELD_OUT_IMAGES = 5000


@dataclass(frozen=True, slots=True)
class AccuracyRecord:
    """Top-1 accuracy of one calibrated subnet on held-out images, as a fraction."""

    architecture: Architecture
    accuracy: float
    images: int
    calibration_images: int
    weights_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "architecture": self.architecture.to_dict(),
            "accuracy": self.accuracy,
            "images": self.images,
            "calibration_images": self.calibration_images,
            "weights_sha256": self.weights_sha256,
        }


def append_accuracy_record(path: Path, record: AccuracyRecord) -> None:
    """Append one record to a JSON Lines file."""
    append_json_line(path, record.to_dict())


def read_accuracy_records(path: Path, weights_sha256: str) -> list[AccuracyRecord]:
    """The records of one supernet's weights; those of other weights in the file are left out.

    Raises
    ------
    InvalidRecordError
        A line is not an accuracy record.
    """
    records = []
    for number, content in enumerate(read_json_lines(path), start=1):
        try:
            fields = dict(content)
            record = AccuracyRecord(Architecture.from_dict(fields.pop("architecture")), **fields)
            if not 0 <= record.accuracy <= 1:
                raise ValueError(f"accuracy {record.accuracy}")
        except (InvalidArchitectureError, KeyError, TypeError, ValueError) as error:
            raise InvalidRecordError(f"{path}, line {number}: not an accuracy record: {error}") from error
        if record.weights_sha256 == weights_sha256:
            records.append(record)
    return records
