"""A job on its way through a farm, and what became of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from ofa_tvm.measurement.job import Job


@dataclass(frozen=True, slots=True)
class Failure:
    """Where a job failed and why; `number` is how many jobs were tried there before."""

    device: str
    number: int
    reason: str

    def __str__(self) -> str:
        return self.reason if self.device in self.reason else f"{self.reason} (on {self.device})"


@dataclass(slots=True, eq=False)
class Task:
    """A job that is still to be measured, its failures so far, and how often a connection was lost during it."""

    index: int
    job: Job
    failures: list[Failure] = field(default_factory=list)
    losses: int = 0

    def failed(self, failure: Failure) -> int:
        """It failed once more: how often it has by now."""
        self.failures.append(failure)
        return len(self.failures)

    def lost(self) -> int:
        """A connection was lost during it: how often that has been so by now."""
        self.losses += 1
        return self.losses

    def failed_on(self, device: str) -> bool:
        """Whether the job failed there before."""
        return any(failure.device == device for failure in self.failures)


@dataclass(slots=True)
class Tally:
    """Jobs that a device has tried; `last_success` is the number of the last one that did not fail, by `tried`."""

    tried: int = 0
    last_success: int = -1
