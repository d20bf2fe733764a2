"""RPC server for a device: forks a session for each client and outlives whatever happens in one.

Run it on the device with a Python that has apache-tvm (its runtime is enough)::

    python server.py --tracker HOST:PORT --key rasp4

TVM's own ``tvm.exec.rpc_server`` leaves the tracker for good when a kernel crashes, and waits for ever
for a kernel that does not end. This one has no threads: a session is a child process that is killed
when its client hangs up, and the client is told when the child dies.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time

# tvm_ffi imports torch where it finds it: a second and 200 MB that a server has no use for.
sys.modules["torch"] = None  # type: ignore[assignment]

PR_SET_PDEATHSIG = 1
HANDSHAKE_LIMIT_S = 10.0
RECONNECT_PERIOD_S = 1.0
POLL_PERIOD_S = 1.0
UNCLAIMED_PERIODS = 5
HANG_UP_GRACE_S = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracker", required=True, metavar="HOST:PORT", help="tracker to register at")
    parser.add_argument("--key", required=True, help="device key: the name of the target, such as rasp4")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    parser.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help="threads a kernel may use (default: %(default)s)")
    options = parser.parse_args()
    host, _, port = options.tracker.rpartition(":")
    if not host or not port.isdigit():
        parser.error(f"--tracker {options.tracker}: not HOST:PORT")

    os.environ["TVM_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's threads: none may run when a session is forked
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        listener = listen(options.host, options.port, options.listen_fd)
        load_runtime()
        serve(listener, (host, int(port)), options.key)
    except OSError as error:
        log(f"cannot listen on {options.host}:{options.port}: {error.strerror}")
        return 2
    except KeyboardInterrupt:
        log("stopped")
    return 0


def log(message: str) -> None:
    print(f"rpc server: {message}", file=sys.stderr, flush=True)


def listen(host: str, port: int, listen_fd: int | None) -> socket.socket:
    if listen_fd is not None:  # bound by the process that started this one, so nobody else can take the port
        return socket.socket(fileno=listen_fd)
    listener = socket.socket(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0], socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen()
    return listener


def load_runtime() -> None:
    """Import TVM once, before any fork, with the part of the runtime that holds sort and random fill."""
    import tvm.rpc.server

    tvm.rpc.server.logger.setLevel("WARNING")
    extra = os.path.join(os.path.dirname(tvm.__file__), "lib", "libtvm_runtime_extra.so")
    if os.path.exists(extra):
        ctypes.CDLL(extra, ctypes.RTLD_GLOBAL)


def serve(listener: socket.socket, tracker: tuple[str, int], key: str) -> None:
    """Register at the tracker and serve one client after the other, for ever."""
    registration: Registration | None = None
    while True:
        try:
            if registration is None:
                registration = Registration(tracker, key, listener.getsockname()[1])
                log(f"{key} registered at {tracker[0]}:{tracker[1]}")
            client = wait_for_client(listener, registration)
        except (OSError, ValueError) as error:
            log(f"tracker {tracker[0]}:{tracker[1]}: {error}; trying again")
            if registration is not None:
                registration.connection.close()
                registration = None
            time.sleep(RECONNECT_PERIOD_S)
            continue
        with client:
            serve_session(client, others=(listener, registration.connection))


class Registration:
    """The connection that keeps a device in the tracker's list, and the key of its next client."""

    def __init__(self, tracker: tuple[str, int], key: str, port: int) -> None:
        from tvm.rpc import base

        self.key, self.port = key, port
        self.connection = socket.create_connection(tracker, timeout=HANDSHAKE_LIMIT_S)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a message goes out in two parts
        self.connection.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
        if struct.unpack("<i", base.recvall(self.connection, 4))[0] != base.RPC_TRACKER_MAGIC:
            raise ValueError("not an RPC tracker")
        self.ask([base.TrackerCode.UPDATE_INFO, {"key": f"server:{key}", "addr": (None, port)}])
        self.match_key = ""

    def ask(self, message: list[object]) -> object:
        from tvm.rpc import base

        base.sendjson(self.connection, message)
        return base.recvjson(self.connection)

    def offer(self) -> None:
        """Put one free session into the tracker's queue, under a fresh match key."""
        from tvm.rpc import base

        self.match_key = base.random_key(self.key)
        self.ask([base.TrackerCode.PUT, self.key, (self.port, self.match_key), None])

    def claimed(self) -> bool:
        """Whether the tracker has given the offered session to a client."""
        from tvm.rpc import base

        pending = self.ask([base.TrackerCode.GET_PENDING_MATCHKEYS])
        return not isinstance(pending, list) or self.match_key not in pending


def wait_for_client(listener: socket.socket, registration: Registration) -> socket.socket:
    """The connection of the next client that knows the match key."""
    registration.offer()
    claimed_periods = 0
    while True:
        readable, _, _ = select.select([listener], [], [], POLL_PERIOD_S)
        if readable:
            client = greet(listener.accept()[0], registration)
            if client is not None:
                return client
            continue
        claimed_periods = claimed_periods + 1 if registration.claimed() else 0
        if claimed_periods >= UNCLAIMED_PERIODS:  # whoever got the key died before it came here
            registration.offer()
            claimed_periods = 0


def greet(client: socket.socket, registration: Registration) -> socket.socket | None:
    """TVM's handshake: magic, key length, ``client:<match key>``; None for anybody else."""
    from tvm.rpc import base

    try:
        client.settimeout(HANDSHAKE_LIMIT_S)
        magic, length = struct.unpack("<ii", base.recvall(client, 8))
        if magic != base.RPC_MAGIC or not 0 < length < 1024:
            raise ValueError("not an RPC client")
        words = base.recvall(client, length).decode().split()
        if not words or words[0] != f"client:{registration.match_key}":
            client.sendall(struct.pack("<i", base.RPC_CODE_MISMATCH))
            raise ValueError("wrong match key")
        name = f"server:{registration.key}".encode()
        client.sendall(struct.pack("<ii", base.RPC_CODE_SUCCESS, len(name)) + name)
        client.settimeout(None)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, ValueError) as error:
        log(f"client turned away: {error}")
        client.close()
        return None
    return client


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
    from tvm.rpc import _ffi_api
    from tvm.rpc.server import _server_env
    from tvm.support import utils

    os.chdir(workspace)
    files = _server_env("", utils.TempDirectory(custom_path=os.path.join(workspace, "files")))
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
    from tvm.rpc import _ffi_api

    name = signal.Signals(number).name
    log(f"session ended by {name}")
    try:
        _ffi_api.ReturnException(client.fileno(), f"the process that ran the job was ended by {name}")
    except Exception as error:  # of whatever type TVM gives to a broken connection
        log(f"client not told: {error}")


if __name__ == "__main__":
    os._exit(main())  # at once: TVM's teardown takes a fifth of a second and has nothing to save
