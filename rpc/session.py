"""One client's session, in a process of its own that may crash or hang without harm to the server."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from tvm.rpc import _ffi_api
from tvm.rpc.server import _server_env
from workspace import Uploads, new_workspace

PR_SET_PDEATHSIG = 1
HANG_UP_GRACE_S = 1.0
TELL_LIMIT_S = 5
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve_session(client: socket.socket, others: tuple[socket.socket, ...], limit_s: float) -> bool:
    """Fork a session and wait until it ends, its client hangs up or its time (0: no limit) is over.

    Returns whether the client was told something that it has perhaps not read yet. The session's process
    closes the `others`.
    """
    alive, alive_end = socket.socketpair()  # the session's process alone will have the second one, till its end
    with (
        stop_signals(blocked=True),  # clearing up is not to be interrupted: they come through while it waits
        alive,
        new_workspace() as workspace,
    ):
        parent = os.getpid()
        with alive_end:
            session = os.fork()
            if session == 0:
                run_session(client, workspace, parent, others)
        reason = await_end(session, client, alive, limit_s)
        return reason is not None and tell_client(client, reason)


@contextlib.contextmanager
def stop_signals(blocked: bool) -> Iterator[None]:
    """Hold back the signals that stop the server, or let them through; afterwards it is the other way round."""
    ways = signal.SIG_UNBLOCK, signal.SIG_BLOCK
    try:
        signal.pthread_sigmask(ways[blocked], STOPPING)
        yield
    finally:
        signal.pthread_sigmask(ways[not blocked], STOPPING)


def run_session(client: socket.socket, workspace: str, parent: int, others: tuple[socket.socket, ...]) -> None:
    """The session's process: serve the client until it hangs up. Never returns."""
    status = 1
    try:
        # No Python handlers here: a kernel that never returns would never let one run.
        for number in STOPPING:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
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
    files = _server_env("", Uploads(custom_path=str(Path(workspace) / "files")))
    _ffi_api.ServerLoop(client.fileno())
    del files  # uploads live as long as this object


def await_end(session: int, client: socket.socket, alive: socket.socket, limit_s: float) -> str | None:
    """Wait for the end of the session's process, or bring it about; what there is to tell the client."""
    poller = select.poll()
    poller.register(alive, select.POLLIN)
    poller.register(client, select.POLLRDHUP)
    reason, killed = None, True
    try:
        with stop_signals(blocked=False):
            events = dict(poller.poll(limit_s * 1000 or None))
            if events and alive.fileno() not in events:
                poller.unregister(client)
                killed = not poller.poll(HANG_UP_GRACE_S * 1000)
                if killed:
                    log("client gone, session killed")
            elif events:
                killed = False
            else:
                reason = f"the session was ended after {limit_s:g} s, the server's --session-limit"
                log(reason)
    finally:  # also when a signal stops the server
        if killed:
            os.kill(session, signal.SIGKILL)
        status = os.waitpid(session, 0)[1]
    if os.WIFSIGNALED(status) and not killed:
        name = signal_name(os.WTERMSIG(status))
        log(f"session ended by {name}")
        reason = f"the process that ran the job was ended by {name}"
    return reason


def signal_name(number: int) -> str:
    """``SIGSEGV`` and the like; real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def tell_client(client: socket.socket, reason: str) -> bool:
    """Tell the client why its session ended, as an RPC exception; it may be gone already."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", TELL_LIMIT_S, 0))
    try:
        _ffi_api.ReturnException(client.fileno(), reason)
        client.shutdown(socket.SHUT_WR)  # there is no answer to anything else
    except Exception as error:  # of whatever type TVM gives to a broken connection
        log(f"client not told: {str(error).partition(chr(10))[0]}")
        return False
    return True


def log(message: str) -> None:
    """To the server's log."""
    print(f"rpc server: {message}", file=sys.stderr, flush=True)
