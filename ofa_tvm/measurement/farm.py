"""A farm: all devices of one key, measured on at once.

A device that hangs stops one call only, for as long as the protocol lets a job take. One wait can be longer: TVM
frees what an object stands for on a device with Python's lock held. That happens when a library is dropped from a
session's cache or a timing function goes; everything in this process then waits, Ctrl-C too, until the device answers
or its connection's own limit passes, which is ``timeout_s`` and `rpc_session.RECEIVE_MARGIN_S`, some ten seconds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from ofa_tvm.errors import MeasurementError
from ofa_tvm.measurement.connecting import connect_to_all
from ofa_tvm.measurement.crew import Crew
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.job import Float32Array, Job, KernelJob, Proof, SubnetJob
from ofa_tvm.measurement.limits import Clock, Limits
from ofa_tvm.measurement.pace import differences
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure, Outcome
from ofa_tvm.measurement.run import Batch, Run
from ofa_tvm.measurement.second_try import try_twice
from ofa_tvm.measurement.sources import DeviceSource
from ofa_tvm.reporting import Say
from ofa_tvm.targets import MeasurementProtocol

Check = Callable[[Float32Array], object]


@dataclass(frozen=True, slots=True)
class Ran:
    """An output and where it was computed."""

    output: Float32Array
    device: str
    emulated: bool


class Farm:
    """Devices that stay connected from call to call; use `ofa_tvm.measurement.devices.open_farm`.

    Threads run only while `open` or a measuring iterator does. Call everything from one thread, which outlives the
    farm.

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
        self._proof: Proof | None = None
        self._reported: set[str] = set()

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of all devices seen so far, in the order they came."""
        return tuple(dict.fromkeys(member.name for member in self._crew.members if member.connection.was_made))

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
        devices = [member.connection.device for member in self._crew.connected]
        return [device for device in devices if device is not None]

    @property
    def emulated(self) -> bool:
        """Whether latencies of any device say nothing about real hardware."""
        return any(member.connection.emulated for member in self._crew.members)

    @property
    def needs_library(self) -> bool:
        """Whether a job's library has to exist for it to be timed; a cost model reads only the workloads."""
        return self._source.needs_library

    def require(self, proof: Proof) -> None:
        """Let each device prove that it computes what it should, before it measures for the first time."""
        self._proof = proof

    def open(self, limit_s: float) -> None:
        """Connect to all devices that are free, and wait for the first of them; for the others `Limits.open_s` at most.

        Raises
        ------
        DeviceError
            There was none within `limit_s`.
        """
        connect_to_all(self._crew, limit_s)

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
        """As `measure_in_batches`, one outcome after the other; those of a chunk come at the same time."""
        with contextlib.closing(self.measure_in_batches(jobs, reference, protocol, deadline_s)) as batches:
            for batch in batches:
                yield from batch

    def measure_in_batches(
        self,
        jobs: Sequence[Job],
        reference: KernelJob,
        protocol: MeasurementProtocol,
        deadline_s: float = float("inf"),
    ) -> Generator[Batch, None, None]:
        """Measure jobs on all devices; index and outcome of each, as soon as its chunk is done.

        Close the iterator (`contextlib.closing`) where you may leave it early. Signals that interrupt wait while a
        batch is in your hands; write it down and come back.

        Parameters
        ----------
        deadline_s
            On the farm's clock: chunks under way when it passes are finished, the other jobs left out.

        Raises
        ------
        NumericalMismatchError
            The only device computes wrong numbers.
        MeasurementError
            The reference kernel fails on the only device, without which nothing can be judged.
        DeviceError
            There is no device any more. In all cases what was finished has come out before.
        """
        run = self._run = Run(self._crew, jobs, reference, protocol, deadline_s, self._proof)
        with contextlib.closing(run.batches()) as batches:
            yield from batches
        self._report_differences()

    def run(self, job: SubnetJob, inputs: Float32Array, check: Check | None = None) -> Ran:
        """Output of a subnet, from any device.

        Parameters
        ----------
        check
            Raises a NumericalMismatchError on an output that is wrong. Then another device is asked; if that one
            is right, the first is set aside.

        Raises
        ------
        NumericalMismatchError
            The output of the only device is wrong, or that of two.
        MeasurementError
            The job failed twice, if possible on two devices.
        DeviceError
            There is no device any more.
        """

        def action(device: Device) -> Ran:
            output = device.run(job, inputs)
            if check is not None:
                check(output)
            return Ran(output, device.name, device.emulated)

        return try_twice(self._crew, action, self._reopen)

    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
        """Outputs of a kernel, from any device.

        Raises
        ------
        MeasurementError, DeviceError
            As for `run`.
        """
        return try_twice(self._crew, lambda device: device.run_kernel(job, inputs), self._reopen)

    def reference_ms(self) -> dict[str, float]:
        """Median latency in milliseconds of the reference kernel on each device that has measured."""
        return {
            member.name: median_ms for member in self._crew.members if (median_ms := member.pace.median_ms) is not None
        }

    def _reopen(self) -> None:
        self.open(self._crew.limits.absence_s)

    def _report_differences(self) -> None:
        """Name, once, each device that is slower than the fastest by more than is usual among equals."""
        for name, difference in differences(self.reference_ms()).items():
            if name not in self._reported:
                self._reported.add(name)
                self._say(difference)
