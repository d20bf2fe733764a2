"""How a device offers itself at the tracker, and how a client that was given the offer is recognised."""

from __future__ import annotations

import secrets
import select
import socket
import struct
import sys
import time

from tvm.rpc import base

ANSWER_LIMIT_S = 10.0
POLL_PERIOD_S = 1.0
UNCLAIMED_PERIODS = 5


class Registration:
    """The connection that keeps a device in the tracker's list, and the key of its next client."""

    def __init__(self, tracker: tuple[str, int], key: str, port: int) -> None:
        self.key, self.port = key, port
        self.connection = socket.create_connection(tracker, timeout=ANSWER_LIMIT_S)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a message goes out in two parts
        self.connection.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
        if struct.unpack("<i", base.recvall(self.connection, 4))[0] != base.RPC_TRACKER_MAGIC:
            raise ValueError("not an RPC tracker")
        self.ask([base.TrackerCode.UPDATE_INFO, {"key": f"server:{key}", "addr": (None, port)}])
        self.match_key = ""

    def ask(self, message: list[object]) -> object:
        """The tracker's answer to a message."""
        base.sendjson(self.connection, message)
        self.connection.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1
        )  # so does the answer: no 40 ms in between
        return base.recvjson(self.connection)

    def offer(self) -> None:
        """Put one free session into the tracker's queue, under a fresh match key."""
        self.match_key = f"{self.key}:{secrets.token_hex(16)}"
        self.ask([base.TrackerCode.PUT, self.key, (self.port, self.match_key), None])

    def claimed(self) -> bool:
        """Whether the tracker has given the offered session to a client."""
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


def receive(client: socket.socket, size: int, deadline: float) -> bytes:
    """So many bytes, all of them before the deadline."""
    data = b""
    while len(data) < size:
        if (left_s := deadline - time.monotonic()) <= 0:
            raise TimeoutError("timed out")
        client.settimeout(left_s)
        chunk = client.recv(size - len(data))
        if not chunk:
            raise OSError("connection closed")
        data += chunk
    return data


def greet(client: socket.socket, registration: Registration) -> socket.socket | None:
    """TVM's handshake: magic, key length, ``client:<match key>``; None for anybody else."""
    try:
        deadline = time.monotonic() + ANSWER_LIMIT_S
        magic, length = struct.unpack("<ii", receive(client, 8, deadline))
        if magic != base.RPC_MAGIC or not 0 < length < 1024:
            raise ValueError("not an RPC client")
        words = receive(client, length, deadline).decode().split()
        if not words or words[0] != f"client:{registration.match_key}":
            client.sendall(struct.pack("<i", base.RPC_CODE_MISMATCH))
            raise ValueError("wrong match key")
        name = f"server:{registration.key}".encode()
        client.sendall(struct.pack("<ii", base.RPC_CODE_SUCCESS, len(name)) + name)
        client.settimeout(None)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, ValueError) as error:
        print(f"rpc server: client turned away: {error}", file=sys.stderr, flush=True)
        client.close()
        return None
    return client
