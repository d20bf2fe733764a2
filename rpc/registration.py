"""How a device offers itself at the tracker. What is wrong with a tracker is an OSError or a ValueError."""

from __future__ import annotations

import json
import secrets
import socket
import struct
import time

from tvm.rpc import base

ANSWER_LIMIT_S = 10.0
LONGEST_ANSWER = 1 << 20


class Registration:
    """The connection that keeps a device in the tracker's list, and the key of its next client."""

    def __init__(self, tracker: tuple[str, int], key: str, port: int) -> None:
        self.key, self.port = key, port
        self.match_key = ""
        deadline = time.monotonic() + ANSWER_LIMIT_S
        self.connection = socket.create_connection(tracker, timeout=ANSWER_LIMIT_S)
        try:
            self.connection.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            if receive_number(self.connection, deadline) != base.RPC_TRACKER_MAGIC:
                raise ValueError("not an RPC tracker")
            self.tell([base.TrackerCode.UPDATE_INFO, {"key": f"server:{key}", "addr": (None, port)}])
        except BaseException:
            self.connection.close()
            raise

    def ask(self, message: list[object]) -> bytes:
        """The tracker's answer to a message, as JSON, which is not parsed: nobody knows who listens there."""
        deadline = time.monotonic() + ANSWER_LIMIT_S
        text = json.dumps(message).encode()
        self.connection.settimeout(ANSWER_LIMIT_S)
        self.connection.sendall(struct.pack("<i", len(text)) + text)
        # The answer comes in two parts; the second would wait 40 ms for the first to be acknowledged.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        size = receive_number(self.connection, deadline)
        if not 0 < size <= LONGEST_ANSWER:
            raise ValueError("the answer is not a tracker's")
        return receive(self.connection, size, deadline)

    def tell(self, message: list[object]) -> None:
        """Send a message to which the answer is 0."""
        if self.ask(message) != b"0":
            raise ValueError("the tracker refused the device")

    def offer(self) -> None:
        """Put one free session into the tracker's queue, under a fresh match key."""
        self.match_key = f"{self.key}:{secrets.token_hex(16)}"
        self.tell([base.TrackerCode.PUT, self.key, (self.port, self.match_key), None])

    def claimed(self) -> bool:
        """Whether the tracker has given the offered session to a client."""
        pending = self.ask([base.TrackerCode.GET_PENDING_MATCHKEYS])
        if not (pending.startswith(b"[") and pending.endswith(b"]")):
            raise ValueError("the answer is not a tracker's")
        # The list holds the key as it was sent, or, beyond ASCII, escaped: its random part is plain in any case.
        return self.match_key.rpartition(":")[2].encode() not in pending


def receive(connection: socket.socket, size: int, deadline: float) -> bytes:
    """So many bytes, all of them before the deadline."""
    data = bytearray()
    while len(data) < size:
        if (left_s := deadline - time.monotonic()) <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left_s)
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise OSError("connection closed")
        data += chunk
    return bytes(data)


def receive_number(connection: socket.socket, deadline: float) -> int:
    """A number as TVM's protocols have it."""
    return int(struct.unpack("<i", receive(connection, 4, deadline))[0])
