"""A tracker and an RPC server on loopback that live exactly as long as the command that needs them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ofa_tvm.errors import DeviceUnavailableError, TrackerUnreachableError
from ofa_tvm.measurement.tracker import TrackerAddress, summarize
from ofa_tvm.targets import Target

LOOPBACK = "127.0.0.1"
READY_LIMIT_S = 60.0
STOP_LIMIT_S = 3.0
POLL_PERIOD_S = 0.02


@contextlib.contextmanager
def local_farm(target: Target) -> Iterator[LocalFarm]:
    """Two processes that are stopped whatever happens.

    An exception, Ctrl-C and a normal end stop them here. When this process is killed the kernel does
    it: they are tethered to the thread that calls `LocalFarm.ensure_running`, which must outlive them.
    """
    with tempfile.TemporaryFile() as log:
        farm = LocalFarm(target, log)
        try:
            yield farm
        finally:
            farm.stop()


class LocalFarm:
    """Both processes; use `local_farm`, which stops them."""

    def __init__(self, target: Target, log: IO[bytes]) -> None:
        self._target = target
        self._log = log
        self._tracker: tuple[subprocess.Popen[bytes], TrackerAddress] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def ensure_running(self) -> TrackerAddress:
        """Start what does not run, also what has died since, and wait until the device is registered.

        Raises
        ------
        DeviceUnavailableError
            It was not ready within a minute.
        """
        if self._tracker is None or self._tracker[0].poll() is not None:
            self._stop_server()  # it would register at the dead tracker's port
            self._tracker = self._start("tracker.py")
        tracker = self._tracker[1]
        if self._server is None or self._server.poll() is not None:
            device = self._target.device
            options = ["--tracker", str(tracker), "--key", device.key, "--threads", str(self._target.threads)]
            self._server, _ = self._start("server.py", *options)
            self._await_registration(self._server, tracker)
        return tracker

    def stop(self) -> None:
        """Stop both; they are gone when this returns."""
        self._stop_server()
        if self._tracker is not None:
            _stop(self._tracker[0])
            self._tracker = None

    def _stop_server(self) -> None:
        if self._server is not None:
            _stop(self._server)
            self._server = None

    def _start(self, script: str, *options: str) -> tuple[subprocess.Popen[bytes], TrackerAddress]:
        """Start a script of ``rpc/`` on a port that is bound here first, so that no other process can take it."""
        with socket.create_server((LOOPBACK, 0)) as listener:
            listening = ["--listen-fd", str(listener.fileno())]
            program = [sys.executable, str(rpc_folder() / script), *options, *listening]
            process = subprocess.Popen(
                [sys.executable, "-ES", str(rpc_folder() / "tethered.py"), str(os.getpid()), *program],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[listener.fileno()],
                start_new_session=True,  # a Ctrl-C at the terminal is for the command alone, which then stops them
            )
            return process, TrackerAddress(*listener.getsockname())

    def _await_registration(self, server: subprocess.Popen[bytes], tracker: TrackerAddress) -> None:
        deadline = time.monotonic() + READY_LIMIT_S
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(TrackerUnreachableError):
                if summarize(tracker).free.get(self._target.device.key):
                    return
            time.sleep(POLL_PERIOD_S)
        raise DeviceUnavailableError(f"the local RPC server did not start: {self._last_log_line()}")

    def _last_log_line(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it was silent for {READY_LIMIT_S:.0f} s"


def rpc_folder() -> Path:
    """What runs on devices: in an installed package, or in the repository."""
    package = Path(__file__).parents[1]
    installed = package / "_rpc"
    return installed if installed.is_dir() else package.parent / "rpc"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then insist; its session's process dies with it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
