"""The metadata files of stored predictors: what is in the folder, and where it came from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ofa_tvm.errors import InvalidRecordError
from ofa_tvm.measurement.plausible import MAX_LATENCY_MS
from ofa_tvm.schema_errors import first_fault
from ofa_tvm.space.workload import Workload

METADATA_NAME = "metadata.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MetricsRecord(_Strict):
    """`predictors.metrics.Metrics`, as stored."""

    count: int = Field(ge=1)
    mae: float = Field(ge=0)
    rmse: float = Field(ge=0)
    mape: float = Field(ge=0)
    worst_error: float = Field(ge=0)
    spearman: float = Field(ge=-1, le=1)
    kendall: float = Field(ge=-1, le=1)


class KnownKernel(_Strict):
    """One measured kernel."""

    workload: dict[str, bool | int | float | str]
    latency_ms: float = Field(gt=0, le=MAX_LATENCY_MS)

    def as_workload(self) -> Workload:
        """The kernel's workload.

        Raises
        ------
        InvalidArchitectureError, TypeError
            It is none.
        """
        return Workload(**cast(dict[str, Any], self.workload))


class LatencyMetadata(_Strict):
    """Beside ``booster.json``: everything else a latency predictor consists of."""

    format: Literal["ofa_tvm latency predictor"]
    version: Literal[1]
    space: dict[str, Any]
    kernels: list[KnownKernel]
    overheads: tuple[float, float, float]
    subnets: int
    seed: int
    held_out: MetricsRecord
    provenance: dict[str, str]
    settings: dict[str, Any] | None = None
    booster_sha256: str


class AccuracyMetadata(_Strict):
    """Beside ``weights.safetensors``: everything else an accuracy predictor consists of."""

    format: Literal["ofa_tvm accuracy predictor"]
    version: Literal[1]
    space: dict[str, Any]
    base: float
    records: int
    records_sha256: str
    seed: int
    held_out: MetricsRecord
    provenance: dict[str, str]
    weights_sha256: str


AnyMetadata = TypeVar("AnyMetadata", LatencyMetadata, AccuracyMetadata)


def read_metadata(folder: Path, schema: type[AnyMetadata], remedy: str) -> AnyMetadata:
    """Read a predictor's metadata; `remedy` is the command that makes a new predictor.

    Raises
    ------
    InvalidRecordError
        The file is missing, damaged, or of another kind or version of predictor.
    """
    path = folder / METADATA_NAME
    content = _read_bytes(path, remedy)
    try:
        return schema.model_validate_json(content)
    except ValidationError as error:
        raise InvalidRecordError(f"{path}: {first_fault(error)}; make it anew with {remedy}") from error


def read_verified(path: Path, expected_sha256: str, remedy: str) -> bytes:
    """Read the file that the metadata speaks of.

    Raises
    ------
    InvalidRecordError
        The file is missing, or not the one the metadata was written for.
    """
    content = _read_bytes(path, remedy)
    if hashlib.sha256(content).hexdigest() != expected_sha256:
        raise InvalidRecordError(f"{path}: not the file that {METADATA_NAME} describes; make it anew with {remedy}")
    return content


def _read_bytes(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRecordError(f"cannot read {path}: {error.strerror or error}; make it with {remedy}") from error
