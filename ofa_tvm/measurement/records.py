"""Measurement records: an append-only JSON Lines file of everything that was measured, failures included.

A record counts only for the target it was measured on, as that is today: the same name, and the same settings of all
that decides code and measuring. Others stay in the file, and count again once the settings are as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from ofa_tvm.errors import InvalidRecordError
from ofa_tvm.files import append_json_lines, read_json_lines
from ofa_tvm.measurement.identity import TargetIdentity
from ofa_tvm.measurement.plausible import implausible
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
    """What the records have in common.

    Attributes
    ----------
    target
        Its name.
    settings
        Of the target when this was measured, as in `TargetIdentity`; filled in when the record is appended, and None
        in records of a version that had none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    target: str = Field(min_length=1)
    settings: dict[str, Any] | None = None
    outcome: Measurement | MeasurementFailure

    @property
    def key(self) -> str:
        """What was measured: equal for two measurements of the same thing on the same target with the same settings.

        What is at its default is left out, so that a key stays as it is when records get another field.
        """
        decides = {}
        for name, about in type(self).model_fields.items():
            value = getattr(self, name)
            if name == "record" or (name != "outcome" and value != about.get_default(call_default_factory=True)):
                decides[name] = _decides(value)
        return json.dumps(decides, sort_keys=True)

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
    """The records of one file that count for a target, read once and kept up to date by `append`.

    Attributes
    ----------
    target
        The target that they are of, as it is today.
    others
        Records of that name which were measured with other settings.

    Raises
    ------
    InvalidRecordError
        A line other than the last is damaged or does not fit the schema, or has a measurement that can't be; the
        message has its number.
    """

    def __init__(self, path: Path, target: TargetIdentity) -> None:
        self.path = path
        self.target = target
        named = [record for record in read_records(path) if record.target == target.name]
        self._records = [record for record in named if record.settings == target.settings]
        self.others = [record for record in named if record.settings != target.settings]
        self._by_key = {record.key: record for record in self._records}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def left_aside(self) -> str | None:
        """Which records don't count and why, as a line; None if all do."""
        return self.target.left_aside([record.settings for record in self.others], self.path)

    def of_type(self, record_type: type[RecordType]) -> list[RecordType]:
        """All kernel records or all subnet records, in the order they were measured."""
        return [record for record in self._records if isinstance(record, record_type)]

    def kernel(
        self, workload: Workload, parameters: dict[str, Any], screening: bool = False, cold_weights: bool = False
    ) -> KernelRecord | None:
        """The latest record of this kernel, or None if it was never tried."""
        return self._latest(
            KernelRecord(
                target=self.target.name,
                outcome=_NO_OUTCOME,
                workload=workload,
                parameters=parameters,
                screening=screening,
                cold_weights=cold_weights,
            )
        )

    def subnet(self, architecture: dict[str, Any], kernels: str) -> SubnetRecord | None:
        """The latest record of this subnet of these kernels, or None if it was never tried."""
        return self._latest(
            SubnetRecord(target=self.target.name, outcome=_NO_OUTCOME, architecture=architecture, kernels=kernels)
        )

    def latest_kernels(self) -> list[KernelRecord]:
        """Of each kernel tried the latest record: one that failed since replaces its measurement."""
        return [record for record in self._by_key.values() if isinstance(record, KernelRecord)]

    def append(self, record: Record) -> None:
        """As `append_all`."""
        self.append_all([record])

    def append_all(self, records: Sequence[Record]) -> None:
        """Write records to the file, and on to the disk, before anything else happens: all of them or none.

        They become records of the store's target as it is today. A measurement that can't be becomes a failure, for
        it would be refused when it is read.

        Raises
        ------
        OutputError
            The file can't be written.
        """
        stamped = [self._stamped(record) for record in records]
        append_json_lines(self.path, [record.model_dump(mode="json") for record in stamped])
        self._records.extend(stamped)
        self._by_key.update((record.key, record) for record in stamped)

    def _stamped(self, record: Record) -> Record:
        assert record.target == self.target.name, f"a record of {record.target} among those of {self.target.name}"
        outcome = record.outcome
        if isinstance(outcome, Measurement) and (fault := implausible(outcome)):
            outcome = MeasurementFailure(fault, outcome.device, outcome.timestamp, outcome.versions)
        return record.model_copy(update={"settings": dict(self.target.settings), "outcome": outcome})

    def _latest(self, wanted: RecordType) -> RecordType | None:
        found = self._by_key.get(self._stamped(wanted).key)
        return found if isinstance(found, type(wanted)) else None


_NO_OUTCOME: Outcome = MeasurementFailure(error="", device="", timestamp="", versions={})


def read_records(path: Path) -> list[Record]:
    """All records of a file, of whatever target.

    Raises
    ------
    InvalidRecordError
        As `RecordStore`.
    """
    return [_parse(content, path, line) for line, content in enumerate(read_json_lines(path), start=1)]


def _parse(content: dict[str, Any], path: Path, line: int) -> Record:
    try:
        record = _ADAPTER.validate_python(content)
    except ValidationError as error:
        raise InvalidRecordError(f"{path}, line {line}: {first_fault(error)}; remove the line or the file") from error
    fault = implausible(record.measurement) if record.measurement is not None else None
    if fault:
        raise InvalidRecordError(f"{path}, line {line}: outcome.{fault}; remove the line or the file")
    return record


def _decides(value: Any) -> Any:
    """A field's value as its record's key has it."""
    if isinstance(value, Workload):
        return {f.name: found for f in fields(value) if (found := getattr(value, f.name)) != f.default}
    return value
