"""Whose fault a failure was, and whether a device can be trusted."""

from __future__ import annotations

from ofa_tvm.errors import DeviceUnavailableError, MeasurementError, NumericalMismatchError
from ofa_tvm.measurement.chunk import Chunk
from ofa_tvm.measurement.conduct import MAX_FAILURES
from ofa_tvm.measurement.crew import Crew
from ofa_tvm.measurement.member import Member
from ofa_tvm.measurement.task import Failure, Task
from ofa_tvm.targets import MeasurementProtocol

MAX_LOSSES = 3


class Judge:
    """Decides by what devices did, against what the others of the crew do."""

    def __init__(self, crew: Crew, protocol: MeasurementProtocol) -> None:
        self._crew = crew
        self._protocol = protocol

    def is_for_others(self, task: Task, member: Member) -> bool:
        """Whether a device is to leave a job that failed before to others, which will take it.

        It failed there, and not yet on all that can be trusted; or what this device says of it would not be trusted.
        """
        if not task.failures:
            return False
        trusted = [other for other in self._crew.others(member) if other.trusted]
        if member.conduct.suspect:
            if trusted:
                return True
            trusted = self._crew.others(member)
        untried = any(not task.failed_on(other.name) for other in trusted)
        return task.failed_on(member.name) and (untried or bool(self._crew.connecting))

    def add_failure(self, task: Task, failure: Failure, member: Member) -> bool:
        """Note that a job failed, or that its device was lost once too often; whether that settles it.

        Twice is enough, a third time only if a device that can be trusted has not tried it yet: devices on which
        everything fails are quick and may be many.
        """
        tries = task.failed(failure)
        member.conduct.job_failed(task.index, failure.number)
        if tries < MAX_FAILURES:
            return False
        untried = any(other.trusted and not task.failed_on(other.name) for other in self._crew.members)
        if tries == MAX_FAILURES and untried:
            return False
        for other in self._crew.members:
            other.conduct.explained(task.index)
        return True

    def loss_is_failure(self, task: Task) -> bool:
        """Whether a job during which the connection was lost has failed after all: a kernel can take down a board."""
        return task.lost() >= MAX_LOSSES

    def why_unfit(self, member: Member, chunk: Chunk) -> str | None:
        """Why a device is to be set aside, if it is.

        Raises
        ------
        NumericalMismatchError, MeasurementError
            It computes wrong numbers, or can't run the reference kernel, and there is no other.
        DeviceUnavailableError
            It is lost again and again, and there is no other.
        """
        if member.conduct.condemned is not None and self._crew.others(member):
            return member.conduct.condemned
        member.conduct.reprieved()
        return (
            self._why_lost(member, chunk)
            or self._why_wrong(member, chunk)
            or (self._why_drifting(member, chunk) if chunk.is_whole and self._crew.others(member) else None)
        )

    def is_acceptable(self, chunk: Chunk, attempts: int) -> bool:
        """Whether a chunk need not be measured again; after so many attempts it is accepted as it is."""
        return chunk.is_whole and (self._drift_is_small(chunk) or len(chunk.attempts) >= attempts)

    def accept(self, member: Member, chunk: Chunk) -> None:
        """Note that a chunk is good: who failed at its jobs before was to blame, if there is anybody else."""
        wandered = self._how_wandered(member, chunk)
        if wandered is not None:
            self._tell_wandered(member, wandered)
            if member.pace.is_better_at(chunk.best.reference_ms):
                member.pace.begin_anew()
        member.pace.measured((chunk.best.before_ms, chunk.best.after_ms), chunk.references_ms)
        for task in chunk.tasks.values():
            for failure in task.failures:
                self._blame(task, failure)
        member.passed()

    def _blame(self, task: Task, failure: Failure) -> None:
        for member in self._crew.members:
            if member.name != failure.device:
                continue
            member.conduct.explained(task.index)
            if self._crew.others(member):
                member.conduct.at_fault(failure.number, failure.reason)

    def _why_lost(self, member: Member, chunk: Chunk) -> str | None:
        if chunk.worked:
            member.conduct.worked()
        if chunk.lost is None:
            return None
        now = self._crew.clock()
        losses, since_s = member.conduct.lost(now)
        if self._crew.others(member):
            return f"it is lost again and again: {chunk.lost}" if losses >= MAX_FAILURES else None
        if now - since_s > self._crew.limits.absence_s:
            raise DeviceUnavailableError(f"{member.name} is lost again and again: {chunk.lost}")
        return None

    def _why_wrong(self, member: Member, chunk: Chunk) -> str | None:
        others_may_do = bool(self._crew.expected(member))
        if chunk.mismatch is not None:
            if not others_may_do:
                raise NumericalMismatchError(chunk.mismatch)
            return f"it computes wrong numbers: {chunk.mismatch}"
        if chunk.reference_error is None:
            if chunk.worked:
                member.conduct.reference_worked()
            return None
        if member.conduct.reference_failed() < MAX_FAILURES:
            return None
        if not others_may_do:
            raise MeasurementError(f"the reference kernel failed: {chunk.reference_error}")
        return f"its reference kernel fails: {chunk.reference_error}"

    def _why_drifting(self, member: Member, chunk: Chunk) -> str | None:
        if not self._drift_is_small(chunk):
            return f"its reference kernel drifted by {chunk.best.drift:.1%}, more than {self._protocol.max_drift:.1%}"
        latency_ms = chunk.best.reference_ms
        return None if member.pace.is_better_at(latency_ms) else self._how_wandered(member, chunk)

    def _drift_is_small(self, chunk: Chunk) -> bool:
        return chunk.best.drift <= self._protocol.max_drift

    def _how_wandered(self, member: Member, chunk: Chunk) -> str | None:
        """How the reference kernel's latency differs from what it was at first, if by more than a chunk may drift."""
        return member.pace.differs_at(chunk.best.reference_ms, self._protocol.max_drift)

    def _tell_wandered(self, member: Member, how: str) -> None:
        if member.pace.is_news():
            self._crew.say(f"{member.name} goes on, though {how}: latencies from before and after do not compare well")
