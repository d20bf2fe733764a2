"""What strangers on the port, a tracker that is none and a network that goes away may do to an RPC server."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from tvm.rpc import base

from ..processes import PATIENCE_S, await_true

VANISHED_LIMIT_S = 180.0
PIDFD_GETFD = 438  # the same number on all machines
MAGIC = struct.pack("<i", base.RPC_TRACKER_MAGIC)


def framed(text: bytes) -> bytes:
    return struct.pack("<i", len(text)) + text


# How many answers are right before the wrong one, and the wrong ones.
WRONG_ANSWERS: dict[str, tuple[int, list[bytes]]] = {
    "to the magic": (0, [b"HTTP", MAGIC[:2]]),
    "to the registration": (
        1,
        [struct.pack("<i", size) for size in (-1, (1 << 20) + 1, 2**31 - 1)]
        + [framed(text) for text in (b"[" * 200_000, b"Infinity", b'{"0": 0}', b"\xff\xfe")]
        + [framed(b"0 and more")[:6]],
    ),
    "to the offer": (2, [framed(b"[0]"), framed(b"-1")]),
    "to the question": (3, [framed(b"0"), framed(b'{"board": 1}'), framed(b'["unfinished')]),
}

# Connects as a client does, says so, and stays till its standard input ends.
CLIENT = """
import socket, struct, sys
host, port, magic, name = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
connection = socket.create_connection((host, port), timeout=30)
connection.sendall(struct.pack("<ii", magic, len(name)) + name)
print(struct.unpack("<i", connection.recv(4))[0], flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["python", "native", pytest.param("native-sanitized", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(farm, kind: str):
    return farm.start_server(kind)


@pytest.fixture
def stranger() -> Iterator[contextlib.ExitStack]:
    """Connections that are closed in the end."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("what", WRONG_ANSWERS)
def test_wrong_answer_of_a_tracker_is_an_outage(at_each_kind, kernels: Path, what: str):
    right, wrong = WRONG_ANSWERS[what]

    def check(farm, server):
        farm.tracker.kill()
        with socket.create_server(("127.0.0.1", farm.port)) as listener:
            listener.settimeout(PATIENCE_S)
            for answer in wrong:
                with answer_rightly(listener, right) as connection:
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    assert hangs_up(connection), (answer[:20], server.log)
        registered = server.log.count("registered at")
        farm.start_tracker()
        server.says("registered at", times=registered + 1)
        session = farm.session()
        np.testing.assert_array_equal(session.run(session.module(kernels), "double"), [0, 2, 4, 6])

    at_each_kind(check)


@pytest.mark.slow
def test_answer_that_trickles_is_given_up(at_each_kind):
    def check(farm, server):
        farm.tracker.kill()
        with socket.create_server(("127.0.0.1", farm.port)) as listener:
            listener.settimeout(PATIENCE_S)
            with answer_rightly(listener, 1) as connection, contextlib.suppress(ConnectionError):
                connection.sendall(struct.pack("<i", 1000))
                for _ in range(120):  # no byte comes late, and all of them take a minute
                    connection.sendall(b" ")
                    time.sleep(0.5)
                pytest.fail(f"the server still waits: {server.log}")
        farm.start_tracker()
        server.says("registered at", times=2)

    at_each_kind(check)


def test_strangers_who_say_nothing_hold_nobody_up(farm, server, kernels: Path, stranger: contextlib.ExitStack):
    host, port, match_key = farm.offer()
    silent = [stranger.enter_context(socket.create_connection((host, port), timeout=PATIENCE_S)) for _ in range(3)]
    silent[0].sendall(struct.pack("<i", base.RPC_MAGIC))
    client = stranger.enter_context(socket.create_connection((host, port), timeout=PATIENCE_S))
    name = f"client:{match_key}".encode()
    greeting = struct.pack("<ii", base.RPC_MAGIC, len(name)) + name
    for piece in (greeting[:3], greeting[3:11]):
        client.sendall(piece)
        late = stranger.enter_context(socket.create_connection((host, port), timeout=PATIENCE_S))
        late.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert hangs_up(late)
    client.sendall(greeting[11:])
    assert base.recvall(client, 4) == struct.pack("<i", base.RPC_CODE_SUCCESS)
    assert server.log.count("turned away") == server.log.count("not an RPC client") == 2
    for connection in silent:
        assert hangs_up(connection)
    client.close()
    session = farm.session()
    np.testing.assert_array_equal(session.run(session.module(kernels), "double"), [0, 2, 4, 6])


def test_more_strangers_than_a_server_listens_to(at_each_kind, kernels: Path, stranger: contextlib.ExitStack):
    def check(farm, server):
        host, port, _ = farm.offer()
        for _ in range(30):
            stranger.enter_context(socket.create_connection((host, port), timeout=PATIENCE_S))
        server.says("turned away: too many connections that say nothing", times=22)
        assert server.process.poll() is None
        session = farm.session()
        np.testing.assert_array_equal(session.run(session.module(kernels), "double"), [0, 2, 4, 6])

    at_each_kind(check)


@pytest.mark.slow
def test_stranger_who_says_nothing_is_turned_away_in_time(at_each_kind, stranger: contextlib.ExitStack):
    def check(farm, server):
        host, port, _ = farm.offer()
        silent = stranger.enter_context(socket.create_connection((host, port), timeout=PATIENCE_S))
        assert hangs_up(silent)
        assert "turned away: timed out" in server.log
        assert farm.session()

    at_each_kind(check)


def test_no_descriptor_for_a_client_is_no_outage(at_each_kind, kernels: Path, stranger: contextlib.ExitStack):
    def check(farm, server):
        host, port, _ = farm.offer()
        process = psutil.Process(server.process.pid)
        used = {int(entry.name) for entry in Path(f"/proc/{process.pid}/fd").iterdir()}
        limits = process.rlimit(resource.RLIMIT_NOFILE)
        process.rlimit(resource.RLIMIT_NOFILE, (min(set(range(len(used) + 1)) - used), limits[1]))
        stranger.enter_context(socket.create_connection((host, port), timeout=PATIENCE_S))
        server.says("cannot accept a client: Too many open files")
        process.rlimit(resource.RLIMIT_NOFILE, limits)
        session = farm.session()
        np.testing.assert_array_equal(session.run(session.module(kernels), "double"), [0, 2, 4, 6])
        assert server.log.count("cannot accept") == 1
        assert "tracker 127.0.0.1" not in server.log

    at_each_kind(check)


def test_connection_of_a_client_is_watched(farm, server, kernels: Path):
    session = farm.session()
    session.module(kernels)
    (process,) = server.sessions()
    (number,) = [c.fd for c in process.net_connections() if c.laddr.port == session.address[1]]
    pidfd = os.pidfd_open(process.pid)
    copy = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, pidfd, number, 0)
    os.close(pidfd)
    assert copy >= 0, os.strerror(ctypes.get_errno())
    with socket.socket(fileno=copy) as connection:
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        assert [connection.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [15, 5, 3, 30_000]


@pytest.fixture
def other_machine() -> Iterator[str]:
    """A network namespace at 198.51.100.2, this machine being 198.51.100.1 for it."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")
    name = f"ofa_tvm_{os.getpid()}"
    ip("netns", "add", name)
    try:
        cable = f"ofat{os.getpid()}"[:15]
        ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("address", "add", "198.51.100.1/30", "dev", cable)
        ip("link", "set", cable, "up")
        ip("-n", name, "address", "add", "198.51.100.2/30", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        yield name
    finally:
        ip("netns", "delete", name)


@pytest.mark.slow
def test_client_whose_machine_vanishes_does_not_hold_the_device(farm, other_machine: str):
    kinds = ("python", "native")
    servers = {kind: farm.start_server(kind, "--host", "198.51.100.1", key=kind) for kind in kinds}
    with contextlib.ExitStack() as clients:
        for kind in kinds:
            _, port, match_key = farm.offer(kind)
            words = ["198.51.100.1", port, base.RPC_MAGIC, f"client:{match_key}"]
            command = ["ip", "netns", "exec", other_machine, sys.executable, "-c", CLIENT, *map(str, words)]
            client = clients.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            clients.callback(client.kill)
            assert client.stdout is not None
            assert int(client.stdout.readline()) == base.RPC_CODE_SUCCESS
        ip("-n", other_machine, "route", "add", "blackhole", "198.51.100.1/32")  # it hears, and is not heard any more
        await_true(
            lambda: all(farm.free(kind) for kind in kinds),
            VANISHED_LIMIT_S,
            lambda: [server.log for server in servers.values()],
        )
        assert not any(server.sessions() for server in servers.values())


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=PATIENCE_S)


def hangs_up(connection: socket.socket) -> bool:
    """Whether the other side closes the connection within the limit."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def answer_rightly(listener: socket.socket, times: int) -> socket.socket:
    """The connection of a server that has been answered as a tracker would, so many times."""
    connection = listener.accept()[0]
    connection.settimeout(PATIENCE_S)
    base.recvall(connection, 4)
    for answer in [MAGIC, *[framed(b"0")] * 2][:times]:
        connection.sendall(answer)
        base.recvjson(connection)
    return connection
