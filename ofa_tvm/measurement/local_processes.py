"""Scripts of ``rpc/`` as processes on loopback that live exactly as long as the command that needs them."""

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

from ofa_tvm.errors import TrackerUnreachableError
from ofa_tvm.files import shipped_folder
from ofa_tvm.measurement.loopback import LOOPBACK
from ofa_tvm.measurement.tracker import TrackerAddress, summarize

TRACKER_LIMIT_S = 30.0
STOP_LIMIT_S = 3.0
POLL_PERIOD_S = 0.02


@contextlib.contextmanager
def local_processes(prefix: str) -> Iterator[LocalProcesses]:
    """Processes that are stopped whatever happens.

    An exception, Ctrl-C and a normal end stop them here. When this process is killed the kernel does
    it: they are tethered to the thread that starts them, which must outlive them.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        processes = LocalProcesses(Path(folder))
        try:
            yield processes
        finally:
            processes.stop()


@contextlib.contextmanager
def local_tracker() -> Iterator[TrackerAddress]:
    """A tracker of our own on a free port, for as long as the context lasts.

    Raises
    ------
    TrackerUnreachableError
        It does not start.
    """
    with local_processes("ofa_tvm_tracker_") as processes:
        address = processes.start("tracker.py")
        deadline = time.monotonic() + TRACKER_LIMIT_S
        while True:
            with contextlib.suppress(TrackerUnreachableError):
                summarize(address)
                break
            if not processes.all_run() or time.monotonic() > deadline:
                raise TrackerUnreachableError(f"the local RPC tracker did not start: {processes.last_log_line()}")
            time.sleep(POLL_PERIOD_S)
        yield address


class LocalProcesses:
    """The processes; use `local_processes`, which stops them.

    Parameters
    ----------
    folder
        For their log and their temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, script: str, *options: str) -> TrackerAddress:
        """Start a script; the address it listens on, bound here first, so that no other process can take it."""
        with socket.create_server((LOOPBACK, 0)) as listener:
            listening = ["--listen-fd", str(listener.fileno())]
            program = [sys.executable, str(shipped_folder("rpc") / script), *options, *listening]
            with self._log.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-ES", str(shipped_folder("rpc") / "tethered.py"), str(os.getpid()), *program],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[listener.fileno()],
                    env={**os.environ, "TMPDIR": str(self._folder)},  # a killed server's files go with the folder
                    start_new_session=True,  # Ctrl-C at the terminal is for the command alone, which stops them
                )
            self._processes.append(process)
            return TrackerAddress(*listener.getsockname())

    def all_run(self) -> bool:
        """Whether none has ended."""
        return all(process.poll() is None for process in self._processes)

    def stop(self) -> None:
        """Stop all; they are gone when this returns. A session's process dies with its server."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = []

    def last_log_line(self) -> str:
        """What one of them said last, for messages."""
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return lines[-1] if lines else "they were silent"
