"""A tracker and an RPC server on loopback that live exactly as long as the command that needs them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ofa_tvm.errors import DeviceUnavailableError, TrackerUnreachableError
from ofa_tvm.measurement.tracker import TrackerAddress, summarize
from ofa_tvm.targets import Target

LOOPBACK = "127.0.0.1"
READY_LIMIT_S = 60.0
BUSY_LIMIT_S = 5.0
STOP_LIMIT_S = 3.0
POLL_PERIOD_S = 0.02


@contextlib.contextmanager
def local_farm(target: Target) -> Iterator[LocalFarm]:
    """Two processes that are stopped whatever happens.

    An exception, Ctrl-C and a normal end stop them here. When this process is killed the kernel does
    it: they are tethered to the thread that calls `LocalFarm.ensure_running`, which must outlive them.
    """
    with tempfile.TemporaryDirectory(prefix="ofa_tvm_local_", ignore_cleanup_errors=True) as folder:
        farm = LocalFarm(target, Path(folder))
        try:
            yield farm
        finally:
            farm.stop()


class LocalFarm:
    """Both processes; use `local_farm`, which stops them."""

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self._folder = folder
        self._log = folder / "log"
        self._processes: list[subprocess.Popen[bytes]] = []
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
        self.stop()
        device = self._target.device
        self._tracker = self._start("tracker.py")
        self._start(
            "server.py", "--tracker", str(self._tracker), "--key", device.key, "--threads", str(self._target.threads)
        )
        if not self._becomes_free(self._tracker, READY_LIMIT_S):
            raise DeviceUnavailableError(f"the local RPC server did not start: {self.last_log_line()}")
        return self._tracker

    def stop(self) -> None:
        """Stop both; they are gone when this returns. A session's process dies with its server."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = []

    def _start(self, script: str, *options: str) -> TrackerAddress:
        """Start a script of ``rpc/`` on a port that is bound here first, so that no other process can take it."""
        with socket.create_server((LOOPBACK, 0)) as listener:
            listening = ["--listen-fd", str(listener.fileno())]
            program = [sys.executable, str(rpc_folder() / script), *options, *listening]
            with self._log.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-ES", str(rpc_folder() / "tethered.py"), str(os.getpid()), *program],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[listener.fileno()],
                    env={**os.environ, "TMPDIR": str(self._folder)},  # a killed server's files go with the folder
                    start_new_session=True,  # Ctrl-C at the terminal is for the command alone, which stops them
                )
            self._processes.append(process)
            return TrackerAddress(*listener.getsockname())

    def _becomes_free(self, tracker: TrackerAddress, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while all(process.poll() is None for process in self._processes) and time.monotonic() < deadline:
            with contextlib.suppress(TrackerUnreachableError):
                if summarize(tracker).free.get(self._target.device.key):
                    return True
            time.sleep(POLL_PERIOD_S)
        return False

    def last_log_line(self) -> str:
        """What the server said last, for messages."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it was silent for {READY_LIMIT_S:.0f} s"


def rpc_folder() -> Path:
    """What runs on devices: in an installed package, or in the repository."""
    package = Path(__file__).parents[1]
    installed = package / "_rpc"
    return installed if installed.is_dir() else package.parent / "rpc"
