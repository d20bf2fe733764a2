"""What kernel records say about parameters of this version's templates."""

from __future__ import annotations

from ofa_tvm.compiler.templates import Parameters
from ofa_tvm.errors import InvalidRecordError
from ofa_tvm.measurement.records import KernelRecord


def parameters_of(record: KernelRecord) -> Parameters | None:
    """None where they are of another version of the templates, or were edited: such a record says nothing here."""
    try:
        return Parameters.from_dict(record.parameters)
    except InvalidRecordError:
        return None
