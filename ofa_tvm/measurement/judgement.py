"""Whose fault a failure was, and whether a device can be trusted."""

from __future__ import annotations

import statistics

from ofa_tvm.errors import DeviceUnavailableError, MeasurementError, NumericalMismatchError
from ofa_tvm.measurement.chunk import Chunk, Failure, Task
from ofa_tvm.measurement.crew import Crew
from ofa_tvm.measurement.member import Member
from ofa_tvm.targets import MeasurementProtocol

MAX_FAILURES = 2
MAX_LOSSES = 3
FAULTS_WITHIN = 16
FIRST_REFERENCES = 6


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
        if member.suspect:
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
        task.failures.append(failure)
        member.unexplained[task.index] = failure.number
        tries = len(task.failures)
        if tries < MAX_FAILURES:
            return False
        untried = any(other.trusted and not task.failed_on(other.name) for other in self._crew.members)
        if tries == MAX_FAILURES and untried:
            return False
        for other in self._crew.members:
            other.unexplained.pop(task.index, None)
        return True

    def loss_is_failure(self, task: Task) -> bool:
        """Whether a job during which the connection was lost has failed after all: a kernel can take down a board."""
        task.losses += 1
        return task.losses >= MAX_LOSSES

    def why_unfit(self, member: Member, chunk: Chunk) -> str | None:
        """Why a device is to be set aside, if it is.

        Raises
        ------
        NumericalMismatchError, MeasurementError
            It computes wrong numbers, or can't run the reference kernel, and there is no other.
        DeviceUnavailableError
            It is lost again and again, and there is no other.
        """
        if member.condemned is not None and self._crew.others(member):
            return member.condemned
        member.condemned = None
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
            if self._is_faster(member, chunk):
                member.first_references_ms.clear()  # it was slow at first; from now on this is its pace
        if len(member.first_references_ms) < FIRST_REFERENCES:
            member.first_references_ms.extend((chunk.best.before_ms, chunk.best.after_ms))
        member.references_ms.extend(chunk.references_ms)
        if chunk.tasks:
            member.pause_s = 0.0
        for task in chunk.tasks.values():
            for failure in task.failures:
                self._blame(task, failure)

    def _blame(self, task: Task, failure: Failure) -> None:
        for member in self._crew.members:
            if member.name != failure.device:
                continue
            member.unexplained.pop(task.index, None)
            if failure.number < member.forgiven or not self._crew.others(member):
                continue
            member.blamed = [number for number in member.blamed if abs(number - failure.number) < FAULTS_WITHIN]
            member.blamed.append(failure.number)
            if len(member.blamed) >= MAX_FAILURES:
                member.condemned = f"jobs fail on it that succeed on others, the last: {failure.reason}"

    def _why_lost(self, member: Member, chunk: Chunk) -> str | None:
        if chunk.worked:
            member.losses, member.lost_since = 0, None
        if chunk.lost is None:
            return None
        now = self._crew.clock()
        member.losses += 1
        member.lost_since = now if member.lost_since is None else member.lost_since
        if self._crew.others(member):
            return f"it is lost again and again: {chunk.lost}" if member.losses >= MAX_FAILURES else None
        if now - member.lost_since > self._crew.limits.absence_s:
            raise DeviceUnavailableError(f"{member.name} is lost again and again: {chunk.lost}")
        return None

    def _why_wrong(self, member: Member, chunk: Chunk) -> str | None:
        others_may_do = bool(self._crew.expected(member))
        if chunk.mismatch is not None:
            if not others_may_do:
                raise NumericalMismatchError(chunk.mismatch)
            return f"it computes wrong numbers: {chunk.mismatch}"
        if chunk.reference_error is None:
            member.reference_failures = 0 if chunk.worked else member.reference_failures
            return None
        member.reference_failures += 1
        if member.reference_failures < MAX_FAILURES:
            return None
        if not others_may_do:
            raise MeasurementError(f"the reference kernel failed: {chunk.reference_error}")
        return f"its reference kernel fails: {chunk.reference_error}"

    def _why_drifting(self, member: Member, chunk: Chunk) -> str | None:
        if not self._drift_is_small(chunk):
            return f"its reference kernel drifted by {chunk.best.drift:.1%}, more than {self._protocol.max_drift:.1%}"
        return None if self._is_faster(member, chunk) else self._how_wandered(member, chunk)

    def _drift_is_small(self, chunk: Chunk) -> bool:
        return chunk.best.drift <= self._protocol.max_drift

    def _is_faster(self, member: Member, chunk: Chunk) -> bool:
        """Than it was at first."""
        first_ms = member.first_references_ms
        return bool(first_ms) and chunk.best.reference_ms < statistics.median(first_ms)

    def _how_wandered(self, member: Member, chunk: Chunk) -> str | None:
        """How the reference kernel's latency differs from what it was at first, if by more than a chunk may drift."""
        if not member.first_references_ms:
            return None
        first_ms, now_ms = statistics.median(member.first_references_ms), chunk.best.reference_ms
        if max(first_ms, now_ms) / min(first_ms, now_ms) - 1 <= self._protocol.max_drift:
            return None
        return (
            f"its reference kernel took {first_ms:.4g} ms at first and takes {now_ms:.4g} ms now, "
            f"which differs by more than {self._protocol.max_drift:.1%}"
        )

    def _tell_wandered(self, member: Member, how: str) -> None:
        if not member.wandered:
            member.wandered = True
            self._crew.say(f"{member.name} goes on, though {how}: latencies from before and after do not compare well")
