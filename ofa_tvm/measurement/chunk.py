"""Jobs that are measured together on one device, between two runs of the reference kernel."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ofa_tvm.errors import DeviceError, MeasurementError, NumericalMismatchError
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.job import KernelJob, Proof
from ofa_tvm.measurement.protocol import Measurement, measurement, now, relative_drift
from ofa_tvm.measurement.task import Failure, Tally, Task
from ofa_tvm.targets import MeasurementProtocol


@dataclass(frozen=True, slots=True)
class ChunkAttempt:
    """Samples by job, and the reference kernel's latency before and after."""

    samples_ms: Mapping[int, tuple[float, ...]]
    before_ms: float
    after_ms: float

    @property
    def drift(self) -> float:
        """Relative change of the reference."""
        return relative_drift(self.before_ms, self.after_ms)

    @property
    def reference_ms(self) -> float:
        """Mean of the two."""
        return (self.before_ms + self.after_ms) / 2


class Chunk:
    """Tasks on their way through one device; without any, it is a test of the device alone.

    Parameters
    ----------
    proof
        To be given first, if any.
    cold
        Whether the device is to be warmed up before anything is measured.

    Attributes
    ----------
    tasks
        By index, without those that were taken by `take_failed`.
    tally
        Of the device, with what was tried in this chunk.
    reference_error, mismatch, lost
        Why the reference kernel failed just now; which wrong numbers the device computed; why its connection was lost.
    lost_during
        The task under way when the connection was lost, if it was one.
    worked
        Whether anything succeeded just now.
    attempts
        All tasks measured, and both references: what is needed to accept the chunk.
    """

    def __init__(self, tasks: Iterable[Task], tally: Tally, proof: Proof | None = None, cold: bool = False) -> None:
        self.tasks = {task.index: task for task in tasks}
        self.tally = tally
        self.proof = proof
        self.cold = cold
        self.reference_error: str | None = None
        self.mismatch: str | None = None
        self.lost: str | None = None
        self.lost_during: Task | None = None
        self.worked = False
        self.attempts: list[ChunkAttempt] = []
        self._failed: dict[int, tuple[int, str]] = {}
        self._before_ms: float | None = None
        self._samples_ms: dict[int, tuple[float, ...]] = {}

    def advance(self, device: Device, reference: KernelJob, protocol: MeasurementProtocol) -> None:
        """Go on with the attempt until it is whole, or the device's connection or the reference kernel fails."""
        came_back = self.lost is not None
        self.reference_error = self.mismatch = self.lost = self.lost_during = None
        self.worked = False
        try:
            if self.proof is not None:
                self.proof(device)
                self.proof = None
            if self.cold:
                device.warm_up(reference, protocol)
                self.cold = False
            if self._before_ms is None:
                self._before_ms = self._reference_ms(device, reference, protocol)
            elif came_back:  # shows whose fault it was: the jobs', if it is lost during one of them again
                self._reference_ms(device, reference, protocol)
            if self._measure_tasks(device, protocol):
                after_ms = self._reference_ms(device, reference, protocol)
                self.attempts.append(ChunkAttempt(self._samples_ms, self._before_ms, after_ms))
                self._before_ms, self._samples_ms = None, {}
        except NumericalMismatchError as error:
            self.mismatch = str(error)
        except MeasurementError as error:
            self.reference_error = str(error)
        except DeviceError as error:
            self.lost = str(error)
            device.close()

    @property
    def is_whole(self) -> bool:
        """Whether there is an attempt, and no other was begun."""
        return bool(self.attempts) and self._before_ms is None

    @property
    def is_proven(self) -> bool:
        """Whether the device has given the proof, and is warm."""
        return self.proof is None and not self.cold

    @property
    def best(self) -> ChunkAttempt:
        """The attempt with the least drift."""
        return min(self.attempts, key=lambda attempt: attempt.drift)

    @property
    def references_ms(self) -> list[float]:
        """The reference kernel's latencies in all attempts."""
        return [latency for attempt in self.attempts for latency in (attempt.before_ms, attempt.after_ms)]

    def take_failed(self, device: str) -> list[tuple[Task, Failure]]:
        """The tasks that failed on this device; they are no part of the chunk any more."""
        failed, self._failed = self._failed, {}
        return [(self.tasks.pop(index), Failure(device, number, reason)) for index, (number, reason) in failed.items()]

    def take_lost(self, device: str, task: Task) -> tuple[Task, Failure]:
        """A task during which the connection was lost, as one that failed; it is no part of the chunk any more."""
        del self.tasks[task.index]
        self.tally.tried += 1
        reason = f"lost {task.losses} times while it ran, the last: {self.lost}"
        return task, Failure(device, self.tally.tried - 1, reason)

    def measurements(self, device: Device) -> list[tuple[Task, Measurement]]:
        """Of all tasks, by the best attempt."""
        best, timestamp = self.best, now()
        return [
            (task, measurement(device, best.samples_ms[index], best.before_ms, best.after_ms, timestamp))
            for index, task in self.tasks.items()
        ]

    def _reference_ms(self, device: Device, reference: KernelJob, protocol: MeasurementProtocol) -> float:
        latency_ms = statistics.median(device.time(reference, protocol))
        self.worked = True
        return latency_ms

    def _measure_tasks(self, device: Device, protocol: MeasurementProtocol) -> bool:
        """Whether the device is still open."""
        for index, task in self.tasks.items():
            if index in self._samples_ms:
                continue
            try:
                if isinstance(task.job, KernelJob) and task.job.proof is not None:
                    task.job.proof(device)
                self._samples_ms[index] = device.time(task.job, protocol)
            except (MeasurementError, NumericalMismatchError) as error:
                self._failed[index] = self.tally.tried, str(error)
                self.tally.tried += 1
                if not device.is_open:
                    return False
            except DeviceError:
                self.lost_during = task
                raise
            else:
                self.worked = True
                self.tally.last_success = self.tally.tried
                self.tally.tried += 1
        return True
