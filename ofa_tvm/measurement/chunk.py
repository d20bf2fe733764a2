"""Jobs that are measured together on one device, between two runs of the reference kernel."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ofa_tvm.errors import DeviceError, MeasurementError
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.job import Job, KernelJob
from ofa_tvm.measurement.protocol import Measurement, measurement, now, relative_drift
from ofa_tvm.targets import MeasurementProtocol


@dataclass(frozen=True, slots=True)
class Failure:
    """Where a job failed and why, and in which run of failures of that device, by its successes before."""

    device: str
    streak: int
    reason: str

    def __str__(self) -> str:
        return self.reason if self.device in self.reason else f"{self.reason} (on {self.device})"


@dataclass(slots=True, eq=False)
class Task:
    """A job that is still to be measured, and its failures so far."""

    index: int
    job: Job
    failures: list[Failure] = field(default_factory=list)

    def failed_on(self, device: str) -> bool:
        """Whether the job failed there before."""
        return any(failure.device == device for failure in self.failures)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Samples by job, and the reference kernel's latency before and after."""

    samples_ms: Mapping[int, tuple[float, ...]]
    before_ms: float
    after_ms: float

    @property
    def drift(self) -> float:
        """Relative change of the reference."""
        return relative_drift(self.before_ms, self.after_ms)


class Chunk:
    """Tasks on their way through one device; without any, it is a test of the device alone.

    Attributes
    ----------
    tasks
        By index, without those that were taken by `take_failed`.
    successes
        Of the device: those before this chunk, and in it.
    reference_error
        Why the reference kernel failed just now.
    attempts
        All tasks measured, and both references: what is needed to accept the chunk.
    """

    def __init__(self, tasks: Iterable[Task], successes: int) -> None:
        self.tasks = {task.index: task for task in tasks}
        self.successes = successes
        self.reference_error: str | None = None
        self.attempts: list[Attempt] = []
        self._failed: dict[int, tuple[str, int]] = {}
        self._before_ms: float | None = None
        self._samples_ms: dict[int, tuple[float, ...]] = {}

    def advance(self, device: Device, reference: KernelJob, protocol: MeasurementProtocol) -> None:
        """Go on with the attempt until it is whole, or the device's connection or the reference kernel fails."""
        self.reference_error = None
        try:
            if self._before_ms is None:
                self._before_ms = statistics.median(device.time(reference, protocol))
            if not self._measure_tasks(device, protocol):
                return
            after_ms = statistics.median(device.time(reference, protocol))
        except (MeasurementError, DeviceError) as error:
            self.reference_error = str(error)
            if isinstance(error, DeviceError):
                device.close()
            return
        self.attempts.append(Attempt(self._samples_ms, self._before_ms, after_ms))
        self._before_ms, self._samples_ms = None, {}

    @property
    def is_whole(self) -> bool:
        """Whether there is an attempt, and no other was begun."""
        return bool(self.attempts) and self._before_ms is None

    @property
    def least_drift(self) -> float:
        """Of all attempts."""
        return min(attempt.drift for attempt in self.attempts)

    @property
    def references_ms(self) -> list[float]:
        """The reference kernel's latencies in all attempts."""
        return [latency for attempt in self.attempts for latency in (attempt.before_ms, attempt.after_ms)]

    def take_failed(self, device: str) -> list[tuple[Task, Failure]]:
        """The tasks that failed on this device; they are no part of the chunk any more."""
        failed, self._failed = self._failed, {}
        return [(self.tasks.pop(index), Failure(device, streak, reason)) for index, (reason, streak) in failed.items()]

    def measurements(self, device: Device) -> list[tuple[Task, Measurement]]:
        """Of all tasks, by the attempt with the least drift."""
        best, timestamp = min(self.attempts, key=lambda attempt: attempt.drift), now()
        return [
            (task, measurement(device, best.samples_ms[index], best.before_ms, best.after_ms, timestamp))
            for index, task in self.tasks.items()
        ]

    def _measure_tasks(self, device: Device, protocol: MeasurementProtocol) -> bool:
        """Whether the device is still open."""
        for index, task in self.tasks.items():
            if index in self._samples_ms:
                continue
            try:
                self._samples_ms[index] = device.time(task.job, protocol)
            except (MeasurementError, DeviceError) as error:
                self._failed[index] = str(error), self.successes
                if isinstance(error, DeviceError):
                    device.close()
                if not device.is_open:
                    return False
            else:
                self.successes += 1
        return True
