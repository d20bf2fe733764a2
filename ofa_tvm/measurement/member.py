"""A device of a farm, and how it has behaved."""

from __future__ import annotations

from dataclasses import dataclass, field

from ofa_tvm.measurement.chunk import Chunk, Tally
from ofa_tvm.measurement.device import Device


@dataclass(slots=True, eq=False)
class Member:
    """A device of the farm, and how it has behaved.

    Attributes
    ----------
    address
        Where it was offered last; None once another device was found there.
    name
        As records have it; the address until it has been connected to.
    board
        What tells its board from all others, if that is known.
    device
        None while not connected.
    chunk
        What it works on.
    at_work
        A thread is busy with its device.
    missed_since
        When the connection broke amid the chunk.
    last_seen
        When it was connected last.
    pause_s, paused_until
        For how long it was set aside last, and until when; 0 once it has measured a chunk since.
    on_trial
        It was set aside, and has to prove itself with the reference kernel before it gets jobs.
    proven
        It computes what it should.
    condemned
        Why it is to be set aside as soon as it has ended what it does; None if it is not.
    tally
        Of the jobs tried here.
    unexplained
        Numbers of the jobs that failed here and have not been settled yet, by the job's index.
    blamed
        Numbers of the jobs that failed by its own fault.
    forgiven
        Failures of jobs with lower numbers have been paid for.
    reference_failures
        Of the reference kernel, in a row.
    losses, lost_since
        Of the connection, in a row with nothing done in between, and since when.
    references_ms, first_references_ms
        Latencies of the reference kernel before and after all chunks, and those that later ones are compared with.
    wandered
        It was said that its reference kernel is no longer what it was.
    """

    address: str | None
    name: str
    board: str | None = None
    emulated: bool = False
    met: bool = False
    device: Device | None = None
    chunk: Chunk | None = None
    at_work: bool = False
    missed_since: float | None = None
    last_seen: float = float("-inf")
    pause_s: float = 0.0
    paused_until: float = 0.0
    on_trial: bool = False
    proven: bool = False
    condemned: str | None = None
    tally: Tally = field(default_factory=Tally)
    unexplained: dict[int, int] = field(default_factory=dict)
    blamed: list[int] = field(default_factory=list)
    forgiven: int = 0
    reference_failures: int = 0
    losses: int = 0
    lost_since: float | None = None
    references_ms: list[float] = field(default_factory=list)
    first_references_ms: list[float] = field(default_factory=list)
    wandered: bool = False

    @property
    def connected(self) -> bool:
        """Whether it can take jobs."""
        return self.device is not None and self.device.is_open

    @property
    def suspect(self) -> bool:
        """Whether its last two jobs failed, and nobody knows yet whose fault it was."""
        return sum(number > self.tally.last_success for number in self.unexplained.values()) >= 2

    @property
    def trusted(self) -> bool:
        """Whether a job that fails on it may be to blame."""
        return self.connected and not (self.on_trial or self.condemned or self.suspect)

    def is_same(self, device: Device) -> bool:
        """Whether this is what a new connection has led to."""
        return not self.met or (self.name, self.board) == (device.name, board_of(device))

    def drop(self) -> None:
        """End the connection."""
        device, self.device = self.device, None
        if device is not None:
            device.close()

    def pardon(self) -> None:
        """Begin anew: whatever fails later is another matter."""
        self.on_trial, self.proven, self.condemned = True, False, None
        self.reference_failures = self.losses = 0
        self.lost_since = self.missed_since = None
        self.unexplained.clear()
        self.blamed.clear()
        self.forgiven = self.tally.tried


def board_of(device: Device) -> str | None:
    """What tells the board from all others, if it says so."""
    return device.info.id if device.info is not None else None
