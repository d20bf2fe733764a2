"""Accuracy records: what subnets of a supernet were measured to achieve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ofa_tvm.errors import InvalidArchitectureError, InvalidRecordError
from ofa_tvm.files import append_json_line, read_json_lines
from ofa_tvm.schema_errors import first_fault
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


class _Line(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    architecture: dict[str, Any]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    images: Annotated[int, Field(ge=1)]
    calibration_images: Annotated[int, Field(ge=0)]
    weights_sha256: str

    def record(self) -> AccuracyRecord:
        return AccuracyRecord(
            Architecture.from_dict(self.architecture),
            self.accuracy,
            self.images,
            self.calibration_images,
            self.weights_sha256,
        )


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
    records = [_read(content, path, number) for number, content in enumerate(read_json_lines(path), start=1)]
    return [record for record in records if record.weights_sha256 == weights_sha256]


def comparable_records(
    paths: Iterable[Path], weights_sha256: str, images: int, calibration_images: int
) -> list[AccuracyRecord]:
    """The records in several files of the same weights on the same images; others measure another quantity.

    Raises
    ------
    InvalidRecordError
        A line is not an accuracy record.
    """
    records = [record for path in paths for record in read_accuracy_records(path, weights_sha256)]
    return [r for r in records if (r.images, r.calibration_images) == (images, calibration_images)]


def _read(content: dict[str, Any], path: Path, number: int) -> AccuracyRecord:
    try:
        return _Line.model_validate(content).record()
    except ValidationError as error:
        fault = first_fault(error)
    except InvalidArchitectureError as error:
        fault = str(error)
    raise InvalidRecordError(
        f"{path}, line {number}: not an accuracy record: {fault}; remove the line, and what it held is measured again"
    )
