"""A device of a farm: its connection, its conduct, its pace, and the chunk it works on."""

from __future__ import annotations

from ofa_tvm.measurement.chunk import Chunk
from ofa_tvm.measurement.conduct import Conduct
from ofa_tvm.measurement.connection import Connection
from ofa_tvm.measurement.limits import Limits
from ofa_tvm.measurement.pace import Pace
from ofa_tvm.measurement.pause import Pause
from ofa_tvm.measurement.task import Task


class Member:
    """A device of the farm, from the first offer of it to the end, whatever happens to its connection.

    Parameters
    ----------
    address
        Where it is offered.
    """

    def __init__(self, address: str) -> None:
        self.connection = Connection(address)
        self.conduct = Conduct()
        self.pace = Pace()
        self.pause = Pause()
        self._chunk: Chunk | None = None
        self._at_work = False

    @property
    def name(self) -> str:
        """As records have it."""
        return self.connection.name

    @property
    def connected(self) -> bool:
        """Whether it can take jobs."""
        return self.connection.is_open

    @property
    def trusted(self) -> bool:
        """Whether a job that fails on it may be to blame."""
        return self.connected and self.conduct.trusted

    @property
    def chunk(self) -> Chunk | None:
        """What it works on."""
        return self._chunk

    @property
    def has_tasks(self) -> bool:
        """Whether there are jobs in its chunk."""
        return self._chunk is not None and bool(self._chunk.tasks)

    @property
    def at_work(self) -> bool:
        """Whether a thread is busy with its device."""
        return self._at_work

    def begins(self, chunk: Chunk) -> None:
        """A thread works on a chunk, a new one or that from before."""
        self._chunk, self._at_work = chunk, True

    def rests(self) -> None:
        """The thread has returned."""
        self._at_work = False

    def ends(self) -> list[Task]:
        """Its chunk is done or given up: the jobs that it had. Nobody waits for it any more."""
        chunk, self._chunk = self._chunk, None
        self.connection.not_missed()
        return [] if chunk is None else list(chunk.tasks.values())

    def passed(self) -> None:
        """It has done a chunk, and measured something unless that was its trial."""
        if self.has_tasks:
            self.pause.forget()
        self.pause.end()
        self.conduct.trial_passed()
        self.ends()

    def set_aside(self, now_s: float, limits: Limits) -> bool:
        """Leave it alone for a while, then begin anew; False if it only goes on resting."""
        renewed = self.pause.begin(now_s, limits)
        self.connection.drop()
        self.connection.not_missed()
        self.conduct.pardon()
        return renewed
