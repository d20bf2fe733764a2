"""Measurement records: an append-only JSON Lines file of everything that was measured, failures included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from ofa_tvm.errors import InvalidRecordError
from ofa_tvm.files import append_json_lines, read_json_lines
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure, Outcome
from ofa_tvm.schema_errors import first_fault
from ofa_tvm.space.workload import Workload


def _workload(value: Any) -> Any:
    """A workload from its dict; pydantic alone would let unknown keys pass."""
    if not isinstance(value, dict):
        return value
    try:
        return Workload(**value)
    except TypeError as error:
        raise ValueError(str(error)) from error


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    target: str = Field(min_length=1)
    outcome: Measurement | MeasurementFailure

    @property
    def key(self) -> str:
        """What was measured: equal for two measurements of the same thing on the same target."""
        return json.dumps(self.model_dump(mode="json", exclude={"outcome"}), sort_keys=True)

    @property
    def measurement(self) -> Measurement | None:
        """The measurement, unless it failed."""
        return self.outcome if isinstance(self.outcome, Measurement) else None

    @property
    def error(self) -> str | None:
        """Why it failed, if it did."""
        return self.outcome.error if isinstance(self.outcome, MeasurementFailure) else None


class KernelRecord(_Record):
    """A kernel as measured.

    Attributes
    ----------
    parameters
        Of the schedule template, as plain JSON values.
    screening
        Measured with a few samples, only to see which candidates deserve the target's whole protocol. Such a
        record decides nothing: a lucky one must not win over a measurement.
    cold_weights
        Measured on several copies of its weights in turn, so that they come from beyond the second-level cache as
        they do in a net.
    """

    record: Literal["kernel"] = "kernel"
    workload: Annotated[Workload, BeforeValidator(_workload)]
    parameters: dict[str, Any] = Field(default_factory=dict)
    screening: bool = False
    cold_weights: bool = False


class SubnetRecord(_Record):
    """A whole subnet as measured.

    Attributes
    ----------
    architecture
        As `ofa_tvm.space.architecture.Architecture.to_dict` gives it.
    kernels
        Digest of the kernels it was compiled from: their workloads and parameters.
    """

    record: Literal["subnet"] = "subnet"
    architecture: dict[str, Any]
    kernels: str


Record = KernelRecord | SubnetRecord
RecordType = TypeVar("RecordType", KernelRecord, SubnetRecord)

_ADAPTER: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="record")])


class RecordStore:
    """The records of one file, read once and kept up to date by `append`.

    Raises
    ------
    InvalidRecordError
        A line other than the last is damaged or does not fit the schema; the message has its number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records = [_parse(content, path, line) for line, content in enumerate(read_json_lines(path), start=1)]
        self._by_key = {record.key: record for record in self._records}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def of_type(self, record_type: type[RecordType]) -> list[RecordType]:
        """All kernel records or all subnet records, in the order they were measured."""
        return [record for record in self._records if isinstance(record, record_type)]

    def kernel(
        self,
        target: str,
        workload: Workload,
        parameters: dict[str, Any],
        screening: bool = False,
        cold_weights: bool = False,
    ) -> KernelRecord | None:
        """The latest record of this kernel on this target, or None if it was never tried."""
        return self._latest(
            KernelRecord(
                target=target,
                outcome=_NO_OUTCOME,
                workload=workload,
                parameters=parameters,
                screening=screening,
                cold_weights=cold_weights,
            )
        )

    def subnet(self, target: str, architecture: dict[str, Any], kernels: str) -> SubnetRecord | None:
        """The latest record of this subnet of these kernels on this target, or None if it was never tried."""
        return self._latest(
            SubnetRecord(target=target, outcome=_NO_OUTCOME, architecture=architecture, kernels=kernels)
        )

    def latest_kernels(self, target: str) -> list[KernelRecord]:
        """Of each kernel tried on this target the latest record: one that failed since replaces its measurement."""
        records = self._by_key.values()
        return [record for record in records if isinstance(record, KernelRecord) and record.target == target]

    def append(self, record: Record) -> None:
        """As `append_all`."""
        self.append_all([record])

    def append_all(self, records: Sequence[Record]) -> None:
        """Write records to the file, and on to the disk, before anything else happens: all of them or none.

        Raises
        ------
        OutputError
            The file can't be written.
        """
        append_json_lines(self.path, [record.model_dump(mode="json") for record in records])
        self._records.extend(records)
        self._by_key.update((record.key, record) for record in records)

    def _latest(self, wanted: RecordType) -> RecordType | None:
        found = self._by_key.get(wanted.key)
        return found if isinstance(found, type(wanted)) else None


_NO_OUTCOME: Outcome = MeasurementFailure(error="", device="", timestamp="", versions={})


def _parse(content: dict[str, Any], path: Path, line: int) -> Record:
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        raise InvalidRecordError(f"{path}, line {line}: {first_fault(error)}; remove the line or the file") from error
