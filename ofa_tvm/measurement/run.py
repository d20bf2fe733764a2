"""One run of a farm: jobs handed out to all devices, outcomes in the order of completion."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ofa_tvm.measurement.chunk import Chunk
from ofa_tvm.measurement.connecting import MAX_THREADS, Connecting, wait_for_any
from ofa_tvm.measurement.crew import Crew
from ofa_tvm.measurement.deferral import interrupts_deferred
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.job import Job, KernelJob, Proof
from ofa_tvm.measurement.judgement import Judge
from ofa_tvm.measurement.limits import wait_a_little
from ofa_tvm.measurement.member import Member
from ofa_tvm.measurement.protocol import MeasurementFailure, Outcome, host_versions, now
from ofa_tvm.measurement.task import Task
from ofa_tvm.measurement.task_queue import TaskQueue
from ofa_tvm.targets import MeasurementProtocol

MAX_ATTEMPTS = 3

Batch = list[tuple[int, Outcome]]


class Run:
    """Threads connect and measure; everything is decided in the thread that takes the outcomes.

    Parameters
    ----------
    deadline_s
        On the crew's clock: no chunk but the first is begun after it.
    proof
        That a device computes what it should; asked of each once before it measures.
    """

    def __init__(
        self,
        crew: Crew,
        jobs: Sequence[Job],
        reference: KernelJob,
        protocol: MeasurementProtocol,
        deadline_s: float,
        proof: Proof | None,
    ) -> None:
        self._crew = crew
        self._judge = Judge(crew, protocol)
        self._queue = TaskQueue(jobs)
        self._reference = reference
        self._protocol = protocol
        self._deadline_s = deadline_s
        self._proof = proof
        self._begun = False
        self._ready: Batch = []
        self._chunks: dict[Future[None], tuple[Member, Chunk, Device]] = {}
        self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="farm")
        self._connecting = Connecting(crew, self._pool)

    def batches(self) -> Generator[Batch, None, None]:
        """Index and outcome of the jobs of chunk after chunk; what is finished comes out before any error does.

        An interruption comes when the caller asks for the next batch, not while it has one in hand.
        """
        self._crew.begin()
        try:
            while self._unfinished():
                self._collect()
                self._take_back_jobs()
                self._call_devices()
                self._hand_out()
                if self._ready:  # the devices work on while the caller writes it down
                    yield from self._deliver()
                else:
                    self._await_event()
        except GeneratorExit:
            raise
        except BaseException:
            self._salvage()
            yield from self._deliver()
            raise
        finally:
            self.stop()

    def stop(self) -> None:
        """Cut the connections that are in use, and wait for their threads, which return then."""
        for member in self._crew.members:
            if member.at_work:
                member.connection.drop()
        self._connecting.give_up()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._connecting.forget()
        for member in self._crew.members:
            member.rests()
            member.ends()
        self._chunks = {}

    def _unfinished(self) -> bool:
        at_work = any(member.has_tasks for member in self._crew.members)
        return at_work or bool(self._ready) or (len(self._queue) > 0 and not self._expired())

    def _expired(self) -> bool:
        return self._begun and self._crew.clock() > self._deadline_s

    def _collect(self) -> None:
        """Take in what the threads have finished, before anything else is decided."""
        with interrupts_deferred():
            for future in [future for future in self._chunks if future.done()]:
                member, chunk, device = self._chunks.pop(future)
                member.rests()
                future.result()
                self._settle(member, chunk, device)
            self._connecting.collect()
            for member in self._crew.members:
                condemned = member.conduct.condemned
                if condemned is not None and not member.at_work and self._crew.others(member):
                    self._set_aside(member, condemned)

    def _salvage(self) -> None:
        """Take in what else is finished when something went wrong, and no second error."""
        while any(future.done() for future in self._chunks):
            with contextlib.suppress(Exception):
                self._collect()

    def _deliver(self) -> Generator[Batch, None, None]:
        with interrupts_deferred():
            batch, self._ready = self._ready, []
            if batch:
                yield batch

    def _take_back_jobs(self) -> None:
        """Let others have the jobs of a device that doesn't come back; if there are none, it is waited for longer."""
        crew, now_s = self._crew, self._crew.look()
        for member in crew.members:
            if member.chunk is None or member.at_work or member.connected:
                continue
            member.connection.missed(now_s)
            given_up = bool(crew.others(member)) and member.connection.missed_for(now_s) > crew.limits.return_s
            if given_up and member.has_tasks:
                crew.say(f"{member.name} is gone; other devices take over its jobs")
            if given_up or member.pause.lasts(now_s):
                self._return_tasks(member)

    def _call_devices(self) -> None:
        crew = self._crew
        if len(self._queue) or any(member.connection.is_missed for member in crew.members):
            self._connecting.draw()
            crew.check_absence(crew.limits.absence_s)

    def _hand_out(self) -> None:
        for member in self._crew.connected:
            if member.at_work:
                continue
            device = member.connection.device
            chunk = None if device is None else member.chunk or self._next_chunk(member)
            if chunk is not None and device is not None:
                member.begins(chunk)
                future = self._pool.submit(chunk.advance, device, self._reference, self._protocol)
                self._chunks[future] = member, chunk, device

    def _next_chunk(self, member: Member) -> Chunk | None:
        """Jobs for a device, or none to test it."""
        tasks: list[Task] = []
        if not member.conduct.on_trial:
            if self._expired():
                return None
            devices = 1 + len(self._crew.others(member)) + len(self._crew.connecting)
            tasks = self._queue.take(devices, lambda task: self._judge.is_for_others(task, member))
            if not tasks:
                return None
            self._begun = True
        conduct = member.conduct
        return Chunk(tasks, conduct.tally, None if conduct.proven else self._proof, cold=not conduct.proven)

    def _await_event(self) -> None:
        limits = self._crew.limits
        futures: list[Future[Any]] = [*self._chunks, *self._connecting.pending]
        missed = any(member.connection.is_missed for member in self._crew.members)
        if not futures:
            wait_a_little(limits)
        wait_for_any(futures, limits.urgent_poll_s if missed else limits.poll_s)

    def _settle(self, member: Member, chunk: Chunk, device: Device) -> None:
        """Decide on what a member has done of its chunk; if the chunk stays with it, it goes on."""
        self._take_failures(member, chunk, device)
        why_unfit = self._judge.why_unfit(member, chunk)
        if why_unfit is not None:
            self._set_aside(member, why_unfit)
        elif not chunk.tasks and not member.conduct.on_trial:
            member.ends()
        elif self._judge.is_acceptable(chunk, MAX_ATTEMPTS):
            self._ready.extend((task.index, measured) for task, measured in chunk.measurements(device))
            self._judge.accept(member, chunk)

    def _take_failures(self, member: Member, chunk: Chunk, device: Device) -> None:
        failed = chunk.take_failed(member.name)
        if chunk.lost_during is not None and self._judge.loss_is_failure(chunk.lost_during):
            failed.append(chunk.take_lost(member.name, chunk.lost_during))
        member.conduct.tried(chunk.tally, proven=chunk.is_proven)
        for task, failure in failed:
            if self._judge.add_failure(task, failure, member):
                error = "; then ".join(map(str, task.failures))
                versions = {**host_versions(), **device.versions}
                self._ready.append((task.index, MeasurementFailure(error, member.name, now(), versions)))
            else:
                self._queue.retry(task, elsewhere=bool(self._crew.others(member)))

    def _set_aside(self, member: Member, why: str) -> None:
        self._return_tasks(member)
        self._crew.set_aside(member, why)

    def _return_tasks(self, member: Member) -> None:
        self._queue.put_back(member.ends())
