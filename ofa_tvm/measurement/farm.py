"""A farm: all devices of one key, measured on at once.

A device that hangs stops one call only, for as long as the protocol lets a job take. One wait can be longer: TVM
frees what an object stands for on a device with Python's lock held. That happens when a library is dropped from a
session's cache or a timing function goes; everything in this process then waits, Ctrl-C too, until the device answers
or its connection's own limit passes, which is ``timeout_s`` and `rpc_session.RECEIVE_MARGIN_S`, some ten seconds.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ofa_tvm.errors import DeviceError, MeasurementError, NumericalMismatchError, StageError
from ofa_tvm.measurement.chunk import Failure
from ofa_tvm.measurement.connecting import MAX_THREADS, Connecting, wait_for_any
from ofa_tvm.measurement.crew import Clock, Crew, Limits, wait_a_little
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.job import Float32Array, Job, KernelJob, Proof, SubnetJob
from ofa_tvm.measurement.judgement import MAX_FAILURES, MAX_LOSSES
from ofa_tvm.measurement.member import Member
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure, Outcome
from ofa_tvm.measurement.run import Batch, Run
from ofa_tvm.measurement.sources import DeviceSource
from ofa_tvm.reporting import Say
from ofa_tvm.targets import MeasurementProtocol

Check = Callable[[Float32Array], object]
Result = TypeVar("Result")

NOTABLE_DIFFERENCE = 0.05


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
        return tuple(dict.fromkeys(member.name for member in self._crew.members if member.met))

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
        crew = self._crew
        crew.begin()
        with ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="farm") as pool:
            connecting = Connecting(crew, pool)
            try:
                self._open(connecting, limit_s)
            finally:
                connecting.give_up()
        connecting.forget()

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

        return self._try_twice(action)

    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
        """Outputs of a kernel, from any device.

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
        failures: list[tuple[Member, StageError]] = []
        losses: list[DeviceError] = []
        while len(failures) < MAX_FAILURES and len(losses) < MAX_LOSSES:
            member = self._any_member([failed for failed, _ in failures])
            if any(failed is member and isinstance(error, NumericalMismatchError) for failed, error in failures):
                break  # it would compute the same again
            device = member.device
            if device is None:
                continue
            try:
                result = action(device)
            except StageError as error:
                failures.append((member, error))
            except DeviceError as error:
                losses.append(error)
                member.drop()
            else:
                self._set_aside_wrong(failures)
                return result
        if not failures:
            raise losses[-1]
        told = "; then ".join(str(Failure(member.name, 0, str(error))) for member, error in failures)
        wrong = any(isinstance(error, NumericalMismatchError) for _, error in failures)
        raise NumericalMismatchError(told) if wrong else MeasurementError(told)

    def _set_aside_wrong(self, failures: Sequence[tuple[Member, StageError]]) -> None:
        """Devices whose numbers were wrong where another's were right."""
        for member, error in failures:
            if isinstance(error, NumericalMismatchError):
                self._crew.set_aside(member, f"it computes wrong numbers: {error}")

    def _any_member(self, failed: Sequence[Member]) -> Member:
        """Connected, and if possible one on which nothing failed."""
        if not self._crew.connected:
            self.open(self._crew.limits.absence_s)
        return min(self._crew.connected, key=lambda member: (member in failed, member.on_trial))

    def _open(self, connecting: Connecting, limit_s: float) -> None:
        """All at once; one that hangs holds up those that are there for a while only."""
        crew = self._crew
        connected_at: float | None = None
        connecting.draw()
        while True:
            wait_for_any(connecting.pending, crew.limits.poll_s)
            connecting.collect()
            if crew.connected and connected_at is None:
                connected_at = crew.clock()
            if connecting.pending and (connected_at is None or crew.clock() - connected_at < crew.limits.open_s):
                continue
            crew.check_absence(limit_s)
            if crew.connected:
                return
            wait_a_little(crew.limits)
            connecting.draw()

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
