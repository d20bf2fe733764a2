"""A farm: all devices of one key, measured on at once."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from ofa_tvm.errors import DeviceError, MeasurementError
from ofa_tvm.measurement.chunk import Failure
from ofa_tvm.measurement.crew import Clock, Crew, Limits, Member, Say, wait_a_little
from ofa_tvm.measurement.device import Device, Float32Array
from ofa_tvm.measurement.job import Job, KernelJob, SubnetJob
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure, Outcome
from ofa_tvm.measurement.run import MAX_FAILURES, Run
from ofa_tvm.measurement.sources import DeviceSource
from ofa_tvm.targets import MeasurementProtocol

Result = TypeVar("Result")

NOTABLE_DIFFERENCE = 0.05


class Farm:
    """Devices that stay connected from call to call; use `ofa_tvm.measurement.devices.open_farm`.

    Threads run only while `measure_many` does. Call everything from one thread, which outlives the farm.

    Parameters
    ----------
    say
        Told, a line at a time, what the user should know: who is set aside, gone, or slower than the others.
    clock
        In seconds, never backwards.
    """

    def __init__(
        self, source: DeviceSource, say: Say, clock: Clock = time.monotonic, limits: Limits | None = None
    ) -> None:
        self._source = source
        self._say = say
        self._crew = Crew(source, say, clock, limits or Limits())
        self._run: Run | None = None
        self._reported: set[str] = set()

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of all devices seen so far, in the order they came."""
        return tuple(dict.fromkeys(name for member in self._crew.members for name in member.names))

    @property
    def name(self) -> str:
        """The names of all devices seen so far."""
        return ", ".join(self.devices)

    @property
    def connected(self) -> int:
        """How many devices can take jobs now."""
        return len(self._crew.connected)

    @property
    def open_devices(self) -> list[Device]:
        """Those that can take jobs now, in the order they came."""
        return [member.device for member in self._crew.connected if member.device is not None]

    @property
    def emulated(self) -> bool:
        """Whether latencies of any device say nothing about real hardware."""
        return any(member.emulated for member in self._crew.members)

    @property
    def needs_library(self) -> bool:
        """Whether a job's library has to exist for it to be timed; a cost model reads only the workloads."""
        return self._source.needs_library

    def open(self, limit_s: float) -> None:
        """Connect to all devices that are free, and wait for the first of them.

        Raises
        ------
        DeviceError
            There was none within `limit_s`.
        """
        self._crew.begin()
        self._connect()
        while not self._crew.connected:
            self._crew.check_absence(limit_s)
            wait_a_little(self._crew.limits)
            self._connect()
        self._crew.check_absence(limit_s)

    def close(self) -> None:
        """End all connections."""
        if self._run is not None:
            self._run.stop()
        self._report_differences()
        self._crew.close()

    def measure(self, job: Job, reference: KernelJob, protocol: MeasurementProtocol) -> Measurement:
        """Measure one job on any device.

        Raises
        ------
        MeasurementError
            The job failed twice, or the reference kernel did.
        DeviceError
            There is no device any more.
        """
        ((_, outcome),) = self.measure_many([job], reference, protocol)
        if isinstance(outcome, MeasurementFailure):
            raise MeasurementError(outcome.error)
        return outcome

    def measure_many(
        self,
        jobs: Sequence[Job],
        reference: KernelJob,
        protocol: MeasurementProtocol,
        deadline_s: float = float("inf"),
    ) -> Generator[tuple[int, Outcome], None, None]:
        """Measure jobs on all devices; index and outcome of each, as soon as its chunk is done.

        Close the iterator (`contextlib.closing`) where you may leave it early.

        Parameters
        ----------
        deadline_s
            On the farm's clock: chunks under way when it passes are finished, the other jobs left out.

        Raises
        ------
        MeasurementError
            The reference kernel fails on the only device, without which nothing can be judged.
        DeviceError
            There is no device any more. In both cases all that was finished has come out before.
        """
        run = self._run = Run(self._crew, jobs, reference, protocol, deadline_s)
        with contextlib.closing(run.outcomes()) as outcomes:
            yield from outcomes
        self._report_differences()

    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        """Output of a subnet, from any device.

        Raises
        ------
        MeasurementError
            The job failed twice, if possible on two devices.
        DeviceError
            There is no device any more.
        """
        return self._try_twice(lambda device: device.run(job, inputs))

    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> Float32Array:
        """Output of a kernel, from any device.

        Raises
        ------
        MeasurementError, DeviceError
            As for `run`.
        """
        return self._try_twice(lambda device: device.run_kernel(job, inputs))

    def reference_ms(self) -> dict[str, float]:
        """Median latency in milliseconds of the reference kernel on each device that has measured."""
        return {
            member.name: statistics.median(member.references_ms)
            for member in self._crew.members
            if member.references_ms
        }

    def _try_twice(self, action: Callable[[Device], Result]) -> Result:
        failures: list[Failure] = []
        while len(failures) < MAX_FAILURES:
            member = self._any_member({failure.device for failure in failures})
            device = member.device
            if device is None:
                continue
            try:
                return action(device)
            except MeasurementError as error:
                failures.append(Failure(member.name, 0, str(error)))
            except DeviceError as error:
                failures.append(Failure(member.name, 0, str(error)))
                member.drop()
        raise MeasurementError("; then ".join(map(str, failures)))

    def _any_member(self, failed: set[str]) -> Member:
        """Connected, and if possible one on which nothing failed."""
        if not self._crew.connected:
            self.open(self._crew.limits.absence_s)
        return min(self._crew.connected, key=lambda member: (member.name in failed, member.on_trial))

    def _connect(self) -> None:
        for offer in self._crew.draw():
            try:
                device = offer.connect()
            except DeviceError as error:
                self._crew.refuse(offer, error)
            else:
                self._crew.join(offer, device)

    def _report_differences(self) -> None:
        """Name, once, each device that is slower than the fastest by more than is usual among equals."""
        latencies_ms = self.reference_ms()
        fastest = min(latencies_ms, key=latencies_ms.__getitem__, default="")
        for name, latency_ms in latencies_ms.items():
            ratio = latency_ms / latencies_ms[fastest]
            if ratio > 1 + NOTABLE_DIFFERENCE and name not in self._reported:
                self._reported.add(name)
                self._say(
                    f"unequal devices: the reference kernel takes {latency_ms:.4g} ms on {name}, {ratio - 1:.0%} more "
                    f"than the {latencies_ms[fastest]:.4g} ms on {fastest}; latencies of both are in the records"
                )
