"""Streams through an SSH connection, both ways."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ofa_tvm.boards.forwarding import ForwardingToBoard, ForwardingToHost
from ofa_tvm.boards.ssh import SshConnection

from ..processes import await_true, free_port, send
from .conftest import LIMIT_S, SshBoard

# Sends back what it gets; what comes after the end of its input comes after it has seen that end.
ECHO = """
import socket, threading
server = socket.create_server(("127.0.0.1", {port}))
def serve(stream):
    while block := stream.recv(1 << 16):
        stream.sendall(block)
    stream.sendall(b"end")
    stream.close()
while True:
    threading.Thread(target=serve, args=server.accept()[:1]).start()
"""


@pytest.fixture
def port() -> int:
    """On the board's loopback and on this host's."""
    return free_port()


@pytest.fixture
def echo(ssh_board: SshBoard, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An echo server on the board's loopback."""
    process = _echo_in(ssh_board, port)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def to_board(connection: SshConnection, port: int) -> Iterator[ForwardingToBoard]:
    forwarding = ForwardingToBoard(socket.create_server(("127.0.0.1", port)), port, lambda _: None)
    forwarding.transport = connection.transport
    yield forwarding
    forwarding.close()


@pytest.fixture
def threads() -> Iterator[None]:
    """None may be left of those that copy."""
    yield
    await_true(
        lambda: not [thread for thread in threading.enumerate() if thread.name.startswith(("bridge", "forward"))]
    )


def _echo_in(ssh_board: SshBoard, port: int) -> subprocess.Popen[bytes]:
    script = ECHO.format(port=port)
    process = subprocess.Popen(["ip", "netns", "exec", ssh_board.namespace, sys.executable, "-c", script])
    probe = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
    command = ["ip", "netns", "exec", ssh_board.namespace, sys.executable, "-c", probe]
    await_true(lambda: subprocess.run(command, capture_output=True).returncode == 0)
    return process


def _talk(port: int, size: int) -> bool:
    """Send that many bytes, end the sending, and see whether all come back, and the end after them."""
    sent = os.urandom(size)
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as stream:

        def send() -> None:
            stream.sendall(sent)
            stream.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = b""
        while block := stream.recv(1 << 16):
            received += block
        sender.join()
    return hashlib.sha256(received).digest() == hashlib.sha256(sent + b"end").digest()


@pytest.mark.parametrize("size", [0, 1, 100, 10_000_000])
@pytest.mark.usefixtures("threads", "echo", "to_board")
def test_stream_to_the_board_comes_back_whole_and_ends_by_halves(port: int, size: int):
    assert _talk(port, size)


@pytest.mark.usefixtures("threads", "echo", "to_board")
def test_many_streams_at_once(port: int):
    with ThreadPoolExecutor(24) as pool:
        assert all(pool.map(lambda number: _talk(port, 1000 * number**2), range(24)))


@pytest.mark.usefixtures("threads", "to_board")
def test_port_where_nobody_listens_on_the_board_hangs_up(port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as stream:
        assert stream.recv(1) == b""


@pytest.mark.usefixtures("threads")
def test_peer_that_dies_on_the_board_hangs_up(echo: subprocess.Popen[bytes], to_board: ForwardingToBoard, port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as stream:
        stream.sendall(b"x")
        assert stream.recv(1) == b"x"
        echo.kill()
        assert stream.recv(1) == b""


@pytest.mark.usefixtures("threads", "echo")
def test_cut_connection_ends_every_stream(ssh_board: SshBoard, to_board: ForwardingToBoard, port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as stream:
        stream.sendall(b"x")
        assert stream.recv(1) == b"x"
        send(ssh_board.sessions())
        assert stream.recv(1) == b""
    to_board.transport = None
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as stream:
        assert stream.recv(1) == b""


@pytest.mark.usefixtures("threads")
def test_board_reaches_a_server_here_through_its_loopback(ssh_board: SshBoard, connection: SshConnection):
    server = socket.create_server(("127.0.0.1", 0))
    forwarding = ForwardingToHost(connection.transport, 0, server.getsockname())
    script = f"""
import socket
stream = socket.create_connection(("127.0.0.1", {forwarding.port}))
stream.sendall(b"x" * 1000000)
stream.shutdown(socket.SHUT_WR)
print(stream.recv(100).decode())
"""
    command = ["ip", "netns", "exec", ssh_board.namespace, sys.executable, "-c", script]
    with server, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        stream, _ = server.accept()
        with stream:
            stream.settimeout(LIMIT_S)
            size = 0
            while block := stream.recv(1 << 16):
                size += len(block)
            stream.sendall(str(size).encode())
        assert client.communicate(timeout=LIMIT_S)[0] == "1000000\n"
    forwarding.close()


def test_forwarded_ports_are_on_loopback_alone(ssh_board: SshBoard, connection: SshConnection):
    forwarding = ForwardingToHost(connection.transport, 0, ("127.0.0.1", 1))
    listening = subprocess.run(
        ["ip", "netns", "exec", ssh_board.namespace, "ss", "-Htln"], capture_output=True, text=True, check=True
    ).stdout
    ports = {line.split()[3] for line in listening.splitlines()}
    assert ports == {f"{ssh_board.address}:22", f"127.0.0.1:{forwarding.port}"}
