"""Whole subnets of a space as a target's records have them, whichever command measured them."""

from __future__ import annotations

from collections.abc import Mapping

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.errors import InvalidArchitectureError
from ofa_tvm.measurement.protocol import NOT_BUILT, Measurement, Outcome, host_versions
from ofa_tvm.measurement.records import RecordStore, SubnetRecord
from ofa_tvm.measurement.speeds import Speeds
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.space.search_space import SearchSpace

DEVICE_TRIES = 2
"""A subnet that failed on a device is tried once more, in a later run: the device may have been at fault."""


class SubnetHistory:
    """Subnets measured with today's kernels: those with the best parameters of the records as they are now.

    Attributes
    ----------
    schedules
        These parameters.
    """

    def __init__(self, space: SearchSpace, store: RecordStore, machine: Machine) -> None:
        self.schedules = Schedules(store, machine)
        self._space = space
        self._store = store

    def record(self, outcomes: Mapping[Architecture, Outcome]) -> None:
        """Append what measuring subnets of today's kernels gave.

        Raises
        ------
        OutputError
            The records can't be written.
        """
        self._store.append_all(
            [
                SubnetRecord(
                    target=self._store.target.name,
                    architecture=architecture.to_dict(),
                    kernels=self._digest(architecture),
                    outcome=outcome,
                )
                for architecture, outcome in outcomes.items()
            ]
        )

    def outcome(self, architecture: Architecture) -> Outcome | None:
        """The latest one, or None if the subnet was never tried with these kernels."""
        record = self._record(architecture)
        return None if record is None else record.outcome

    def is_settled(self, architecture: Architecture) -> bool:
        """Whether there is nothing to be gained from trying the subnet in another run.

        It was measured; or could not be built, by the same versions; or failed on a device `DEVICE_TRIES` times.
        """
        record = self._record(architecture)
        if record is None:
            return False
        if isinstance(record.outcome, Measurement):
            return True
        if record.outcome.device == NOT_BUILT:
            return record.outcome.versions == host_versions()
        tries = [other for other in self._store.of_type(SubnetRecord) if other.key == record.key]
        return sum(other.error is not None for other in tries) >= DEVICE_TRIES

    def measured(self) -> dict[Architecture, Measurement]:
        """All of the space that were measured with today's kernels, in the architectures' order."""
        found: dict[Architecture, Measurement] = {}
        for record in self._store.of_type(SubnetRecord):
            architecture = self._architecture(record)
            if architecture is None or architecture in found:
                continue
            outcome = self.outcome(architecture)
            if isinstance(outcome, Measurement):
                found[architecture] = outcome
        return dict(sorted(found.items()))

    def latencies_ms(self, max_drift: float = float("inf")) -> dict[Architecture, float]:
        """Latency of each of `measured` that drifted by no more, as on the slowest of the target's devices."""
        speeds = Speeds(record.measurement for record in self._store)
        return {a: speeds.comparable_ms(m) for a, m in self.measured().items() if m.drift <= max_drift}

    def _architecture(self, record: SubnetRecord) -> Architecture | None:
        """A record's, if it is of this target, this space and today's kernels."""
        try:
            architecture = Architecture.from_dict(record.architecture)
            self._space.check(architecture)
        except InvalidArchitectureError:
            return None
        return architecture if record.kernels == self._digest(architecture) else None

    def _record(self, architecture: Architecture) -> SubnetRecord | None:
        return self._store.subnet(architecture.to_dict(), self._digest(architecture))

    def _digest(self, architecture: Architecture) -> str:
        return self.schedules.digest(workloads(self._space, architecture))
