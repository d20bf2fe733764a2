"""A tracker and an RPC server on loopback that live exactly as long as the command that needs them."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ofa_tvm.errors import DeviceUnavailableError, OutputError, TrackerUnreachableError
from ofa_tvm.measurement.local_processes import POLL_PERIOD_S, LocalProcesses, local_processes
from ofa_tvm.measurement.tracker import TrackerAddress, summarize
from ofa_tvm.refusals import may_execute
from ofa_tvm.targets import Target

READY_LIMIT_S = 60.0
BUSY_LIMIT_S = 5.0


@contextlib.contextmanager
def local_farm(target: Target) -> Iterator[LocalFarm]:
    """Both processes, which end with the context, or with the thread that calls `LocalFarm.ensure_running`.

    Raises
    ------
    OutputError
        The server could not load what it is sent.
    """
    temporary = Path(tempfile.gettempdir())
    if not may_execute(temporary):
        raise OutputError(
            f"{temporary} is mounted noexec: no compiled kernel can be loaded there; name another place with TMPDIR"
        )
    with local_processes("ofa_tvm_local_") as processes:
        yield LocalFarm(target, processes)


class LocalFarm:
    """Both processes; use `local_farm`, which stops them."""

    def __init__(self, target: Target, processes: LocalProcesses) -> None:
        self._target = target
        self._processes = processes
        self._tracker: TrackerAddress | None = None

    def ensure_running(self) -> TrackerAddress:
        """Where the tracker listens, with the device free; to be called while no session is open.

        Both processes are started at the first call, and again if one has died or hangs.

        Raises
        ------
        DeviceUnavailableError
            They were not ready within a minute.
        """
        if self._tracker is not None and self._becomes_free(self._tracker, BUSY_LIMIT_S):
            return self._tracker
        self._processes.stop()
        self._tracker = self._processes.start("tracker.py")
        options = ["--key", self._target.device.key, "--threads", str(self._target.threads)]
        self._processes.start("server.py", "--tracker", str(self._tracker), *options)
        if not self._becomes_free(self._tracker, READY_LIMIT_S):
            raise DeviceUnavailableError(f"the local RPC server did not start: {self.last_log_line()}")
        return self._tracker

    def last_log_line(self) -> str:
        """What the server said last, for messages."""
        return self._processes.last_log_line()

    def _becomes_free(self, tracker: TrackerAddress, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self._processes.all_run() and time.monotonic() < deadline:
            with contextlib.suppress(TrackerUnreachableError):
                if summarize(tracker).free.get(self._target.device.key):
                    return True
            time.sleep(POLL_PERIOD_S)
        return False
