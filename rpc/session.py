"""One client's session, in a process of its own that may crash or hang without harm to the server."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

from tvm.rpc import _ffi_api
from tvm.rpc.server import _server_env
from tvm.support import utils

PR_SET_PDEATHSIG = 1
HANG_UP_GRACE_S = 1.0


def serve_session(client: socket.socket, others: tuple[socket.socket, ...]) -> None:
    """Fork a session and wait until it ends or its client hangs up."""
    workspace = tempfile.mkdtemp(prefix="ofa_tvm_rpc_")
    alive_read, alive_write = os.pipe()  # the write end closes when the session's process is gone
    parent = os.getpid()
    session = os.fork()
    if session == 0:
        run_session(client, workspace, parent, others)
    os.close(alive_write)
    try:
        status = await_end(session, client, alive_read)
        if os.WIFSIGNALED(status):
            report_death(client, os.WTERMSIG(status))
    finally:
        os.close(alive_read)
        shutil.rmtree(workspace, ignore_errors=True)


def run_session(client: socket.socket, workspace: str, parent: int, others: tuple[socket.socket, ...]) -> None:
    """The session's process: serve the client until it hangs up. Never returns."""
    status = 1
    try:
        # No Python handlers here: a kernel that never returns would never let one run.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for other in others:
            other.close()
        if os.getppid() == parent:
            serve_calls(client, workspace)
            status = 0
    finally:
        os._exit(status)


def serve_calls(client: socket.socket, workspace: str) -> None:
    """Run what the client asks for, with files it uploads kept in the workspace."""
    os.chdir(workspace)
    files = _server_env("", utils.TempDirectory(custom_path=str(Path(workspace) / "files")))
    _ffi_api.ServerLoop(client.fileno())
    del files  # uploads live as long as this object


def await_end(session: int, client: socket.socket, alive: int) -> int:
    """Wait status of the session's process; it is killed if it does not end soon after its client hung up."""
    poller = select.poll()
    poller.register(alive, select.POLLIN)
    poller.register(client, select.POLLRDHUP)
    try:
        if alive not in dict(poller.poll()):
            poller.unregister(client)
            if not poller.poll(HANG_UP_GRACE_S * 1000):
                log(f"client gone, session {session} killed")
                os.kill(session, signal.SIGKILL)
    except BaseException:
        os.kill(session, signal.SIGKILL)
        raise
    return os.waitpid(session, 0)[1]


def report_death(client: socket.socket, number: int) -> None:
    """Tell the client why its session ended, as an RPC exception; it may be gone already."""
    name = signal.Signals(number).name
    log(f"session ended by {name}")
    try:
        _ffi_api.ReturnException(client.fileno(), f"the process that ran the job was ended by {name}")
    except Exception as error:  # of whatever type TVM gives to a broken connection
        log(f"client not told: {error}")


def log(message: str) -> None:
    """To the server's log."""
    print(f"rpc server: {message}", file=sys.stderr, flush=True)
