"""One run of a farm: jobs handed out to all devices, outcomes in the order of completion."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from ofa_tvm.errors import DeviceError, MeasurementError
from ofa_tvm.measurement.chunk import Chunk, Task
from ofa_tvm.measurement.crew import Crew, Member, wait_a_little
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.job import Job, KernelJob
from ofa_tvm.measurement.protocol import MeasurementFailure, Outcome, host_versions, now
from ofa_tvm.measurement.sources import Offer
from ofa_tvm.measurement.task_queue import TaskQueue
from ofa_tvm.targets import MeasurementProtocol

MAX_ATTEMPTS = 3
MAX_FAILURES = 2
MAX_FAULTS = 2
MAX_THREADS = 256


class Run:
    """Threads connect and measure; everything is decided in the thread that takes the outcomes.

    Parameters
    ----------
    deadline_s
        On the crew's clock: no chunk but the first is begun after it.
    """

    def __init__(
        self, crew: Crew, jobs: Sequence[Job], reference: KernelJob, protocol: MeasurementProtocol, deadline_s: float
    ) -> None:
        self._crew = crew
        self._queue = TaskQueue(jobs)
        self._reference = reference
        self._protocol = protocol
        self._deadline_s = deadline_s
        self._begun = False
        self._ready: deque[tuple[int, Outcome]] = deque()
        self._connects: dict[Future[Device], Offer] = {}
        self._chunks: dict[Future[None], Member] = {}
        self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="farm")

    def outcomes(self) -> Generator[tuple[int, Outcome], None, None]:
        """Index and outcome of job after job; what is finished comes out before any error does."""
        self._crew.begin()
        try:
            while self._unfinished():
                self._call_devices()
                self._give_up_missed()
                self._hand_out()
                self._await_event()
                self._hand_out()  # the devices work on while the caller writes down what they gave
                yield from self._take_ready()
        except GeneratorExit:
            raise
        except BaseException:
            self._salvage()
            yield from self._take_ready()
            raise
        finally:
            self.stop()

    def stop(self) -> None:
        """Cut the connections that are in use, and wait for their threads, which return then."""
        for member in self._crew.members:
            if member.chunk is not None:
                member.drop()
        for offer in self._connects.values():
            offer.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for future, offer in self._connects.items():
            self._crew.connecting.pop(offer.identity, None)
            if not future.cancelled() and future.exception() is None:
                future.result().close()
        for member in self._crew.members:
            member.chunk = member.missed_since = None
        self._connects, self._chunks = {}, {}

    def _unfinished(self) -> bool:
        at_work = any(member.chunk is not None and member.chunk.tasks for member in self._crew.members)
        return at_work or (len(self._queue) > 0 and not self._expired())

    def _expired(self) -> bool:
        return self._begun and self._crew.clock() > self._deadline_s

    def _call_devices(self) -> None:
        crew = self._crew
        if len(self._queue) or any(member.missed_since is not None for member in crew.members):
            for offer in crew.draw():
                self._connects[self._pool.submit(offer.connect)] = offer
            crew.check_absence(crew.limits.absence_s)

    def _give_up_missed(self) -> None:
        """Let others have the jobs of a device that doesn't come back; if there are none, it is waited for longer."""
        crew = self._crew
        for member in crew.members:
            missed_since = member.missed_since
            if missed_since is None or not crew.others(member):
                continue
            if crew.clock() - missed_since > crew.limits.return_s:
                if member.chunk is not None:
                    crew.say(f"{member.name} is gone; other devices take over its jobs")
                self._return_tasks(member)
                member.missed_since = None

    def _hand_out(self) -> None:
        crew = self._crew
        at_work = set(self._chunks.values())
        for member in [member for member in crew.connected if member not in at_work]:
            if member.chunk is None:
                member.chunk = Chunk([], member.successes) if member.on_trial else self._next_chunk(member)
            if member.chunk is not None and member.device is not None:
                future = self._pool.submit(member.chunk.advance, member.device, self._reference, self._protocol)
                self._chunks[future] = member

    def _next_chunk(self, member: Member) -> Chunk | None:
        if self._expired():
            return None
        others = [other.name for other in self._crew.others(member)]
        tasks = self._queue.take(member.name, [*others, *self._crew.connecting])
        self._begun = self._begun or bool(tasks)
        return Chunk(tasks, member.successes) if tasks else None

    def _await_event(self) -> None:
        crew = self._crew
        futures: list[Future[Any]] = [*self._chunks, *self._connects]
        missed = any(member.missed_since is not None for member in crew.members)
        if not futures:
            wait_a_little(crew.limits)
        wait(futures, crew.limits.urgent_poll_s if missed else crew.limits.poll_s, FIRST_COMPLETED)
        self._collect()

    def _collect(self) -> None:
        """Take in what the threads have finished."""
        for connect in [future for future in self._connects if future.done()]:
            self._connected(connect, self._connects.pop(connect))
        for chunk in [future for future in self._chunks if future.done()]:
            member = self._chunks.pop(chunk)
            chunk.result()
            self._settle(member)

    def _salvage(self) -> None:
        """Take in what else is finished when something went wrong, and no second error."""
        while any(future.done() for future in self._chunks):
            with contextlib.suppress(Exception):
                self._collect()

    def _connected(self, future: Future[Device], offer: Offer) -> None:
        try:
            device = future.result()
        except DeviceError as error:
            self._crew.refuse(offer, error)
            return
        known = {member.identity: member.name for member in self._crew.members}
        member = self._crew.join(offer, device)
        if member.chunk is not None and known.get(offer.identity) != device.name:
            self._return_tasks(member)  # another device at the same address: its jobs begin anew

    def _settle(self, member: Member) -> None:
        """Decide on what a member has done of its chunk; if the chunk stays with it, it goes on."""
        chunk, device = member.chunk, member.device
        if chunk is None or device is None:
            return
        self._take_failures(member, chunk, device)
        why_unfit = self._why_unfit(member, chunk)
        if why_unfit and self._crew.others(member):
            self._set_aside(member, why_unfit)
        elif not chunk.tasks and not member.on_trial:
            member.chunk = None
        elif chunk.is_whole and (not why_unfit or len(chunk.attempts) >= MAX_ATTEMPTS):
            self._accept(member, chunk, device)
        if not device.is_open and member.device is device:
            member.missed_since = self._crew.clock()

    def _take_failures(self, member: Member, chunk: Chunk, device: Device) -> None:
        member.successes = chunk.successes
        for task, failure in chunk.take_failed(member.name):
            task.failures.append(failure)
            if len(task.failures) < MAX_FAILURES:
                self._queue.retry(task, elsewhere=bool(self._crew.others(member)))
                continue
            error = "; then ".join(map(str, task.failures))
            versions = {**host_versions(), **device.versions}
            self._ready.append((task.index, MeasurementFailure(error, member.name, now(), versions)))

    def _why_unfit(self, member: Member, chunk: Chunk) -> str | None:
        if member.condemned is not None and self._crew.others(member):
            return member.condemned
        member.condemned = None
        if chunk.reference_error is not None:
            member.reference_failures += 1
            if member.reference_failures < MAX_FAILURES:
                return None  # the connection may have broken while nobody used it
            if not self._crew.others(member):
                raise MeasurementError(f"the reference kernel failed: {chunk.reference_error}")
            return f"its reference kernel fails: {chunk.reference_error}"
        member.reference_failures = 0
        if chunk.is_whole and chunk.least_drift > self._protocol.max_drift:
            return f"its reference kernel drifted by {chunk.least_drift:.1%}, more than {self._protocol.max_drift:.1%}"
        return None

    def _accept(self, member: Member, chunk: Chunk, device: Device) -> None:
        for task, measurement in chunk.measurements(device):
            self._ready.append((task.index, measurement))
            self._blame(task)
        if chunk.tasks:
            member.pause_s = 0.0
        member.references_ms.extend(chunk.references_ms)
        member.chunk, member.on_trial = None, False

    def _blame(self, task: Task) -> None:
        """A job that succeeded in the end failed by the fault of the device where it failed before."""
        for member in self._crew.members:
            for failure in task.failures:
                if failure.device == member.name and self._crew.others(member):
                    member.faults[failure.streak] += 1
                    if member.faults[failure.streak] >= MAX_FAULTS:
                        self._condemn(member, f"jobs fail on it that succeed on others, the last: {failure.reason}")

    def _condemn(self, member: Member, why: str) -> None:
        """Set it aside, once it has ended what it does."""
        if member in self._chunks.values():
            member.condemned = why
        elif member.connected or member.chunk is not None:
            self._set_aside(member, why)

    def _set_aside(self, member: Member, why: str) -> None:
        self._return_tasks(member)
        self._crew.set_aside(member, why)

    def _return_tasks(self, member: Member) -> None:
        if member.chunk is not None:
            self._queue.put_back(member.chunk.tasks.values())
            member.chunk = None

    def _take_ready(self) -> Iterator[tuple[int, Outcome]]:
        while self._ready:
            yield self._ready.popleft()
