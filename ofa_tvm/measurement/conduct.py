"""How a device of a farm has behaved, and whether it can be trusted."""

from __future__ import annotations

from dataclasses import replace

from ofa_tvm.measurement.task import Tally

MAX_FAILURES = 2
FAULTS_WITHIN = 16


class Conduct:
    """What went wrong on a device, and whose fault that was as far as it is known."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._unexplained: dict[int, int] = {}
        self._faults: list[int] = []
        self._forgiven_below = 0
        self._condemned: str | None = None
        self._on_trial = False
        self._proven = False
        self._reference_failures = 0
        self._losses = 0
        self._lost_since: float | None = None

    @property
    def tally(self) -> Tally:
        """A copy of that of the jobs tried."""
        return replace(self._tally)

    @property
    def on_trial(self) -> bool:
        """Whether it was set aside, and has to prove itself with the reference kernel before it gets jobs."""
        return self._on_trial

    @property
    def proven(self) -> bool:
        """Whether it computes what it should."""
        return self._proven

    @property
    def condemned(self) -> str | None:
        """Why it is to be set aside as soon as it has ended what it does; None if it is not."""
        return self._condemned

    @property
    def suspect(self) -> bool:
        """Whether its last two jobs failed, and nobody knows yet whose fault it was."""
        return sum(number > self._tally.last_success for number in self._unexplained.values()) >= MAX_FAILURES

    @property
    def trusted(self) -> bool:
        """Whether a job that fails on it may be to blame."""
        return not (self._on_trial or self._condemned or self.suspect)

    def tried(self, tally: Tally, proven: bool) -> None:
        """It has tried jobs, and given its proof or not."""
        self._tally, self._proven = replace(tally), proven

    def job_failed(self, job: int, number: int) -> None:
        """The job of this index failed as number so many that were tried; nobody knows yet why."""
        self._unexplained[job] = number

    def explained(self, job: int) -> None:
        """It is known whose fault the failure of a job was."""
        self._unexplained.pop(job, None)

    def at_fault(self, number: int, reason: str) -> None:
        """A job failed here that succeeds on others: once is bad luck, twice within a few jobs condemns."""
        if number < self._forgiven_below:
            return
        self._faults = [fault for fault in self._faults if abs(fault - number) < FAULTS_WITHIN]
        self._faults.append(number)
        if len(self._faults) >= MAX_FAILURES:
            self._condemned = f"jobs fail on it that succeed on others, the last: {reason}"

    def reprieved(self) -> None:
        """There is no other device to do its jobs."""
        self._condemned = None

    def worked(self) -> None:
        """Something succeeded on it: its connection is not lost whatever it does."""
        self._losses, self._lost_since = 0, None

    def lost(self, now_s: float) -> tuple[int, float]:
        """Its connection was lost: how often in a row with nothing done in between, and since when."""
        self._losses += 1
        self._lost_since = now_s if self._lost_since is None else self._lost_since
        return self._losses, self._lost_since

    def reference_worked(self) -> None:
        """The reference kernel did what it should."""
        self._reference_failures = 0

    def reference_failed(self) -> int:
        """The reference kernel failed: how often in a row."""
        self._reference_failures += 1
        return self._reference_failures

    def trial_passed(self) -> None:
        """It gets jobs again."""
        self._on_trial = False

    def pardon(self) -> None:
        """Begin anew, with a trial: whatever fails later is another matter."""
        self._on_trial, self._proven, self._condemned = True, False, None
        self._reference_failures = 0
        self.worked()
        self._unexplained.clear()
        self._faults.clear()
        self._forgiven_below = self._tally.tried
