"""A conversation with TVM's RPC tracker, in which every wait has a limit."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from tvm.rpc import base

MAX_ANSWER_BYTES = 1 << 20

Answer = TypeVar("Answer")


class Conversation:
    """Questions and answers; whoever answers need not be a tracker.

    Parameters
    ----------
    send_limit_s
        For a question to be taken, and for the greeting.
    """

    def __init__(self, connection: socket.socket, send_limit_s: float) -> None:
        self._connection = connection
        self._send_limit_s = send_limit_s

    def greet(self) -> None:
        """Exchange TVM's magic number."""
        magic = struct.pack("<i", base.RPC_TRACKER_MAGIC)
        self._connection.sendall(magic)
        if self._receive(len(magic), time.monotonic() + self._send_limit_s) != magic:
            raise ValueError("something else listens there")

    def ask(self, question: list[Any], answer: TypeAdapter[tuple[int, Answer]], limit_s: float) -> Answer:
        """What comes with the code of success, if it is whole in time.

        Raises
        ------
        OSError, ValueError
            It is not, or is nothing that a tracker says.
        """
        self._connection.settimeout(self._send_limit_s)
        base.sendjson(self._connection, question)
        deadline = time.monotonic() + limit_s
        (size,) = struct.unpack("<i", self._receive(4, deadline))
        if not 0 < size <= MAX_ANSWER_BYTES:
            raise ValueError(f"an answer of {size} bytes")
        content = self._receive(size, deadline)
        try:
            code, told = answer.validate_json(content)
        except ValidationError:
            raise ValueError("not the answer of a tracker") from None
        if code != base.TrackerCode.SUCCESS:
            raise ValueError(f"answer {code}")
        return told

    def _receive(self, size: int, deadline: float) -> bytes:
        """So many bytes, the last of them before the deadline."""
        content = bytearray()
        while len(content) < size:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("timed out")
            self._connection.settimeout(left_s)
            part = self._connection.recv(min(size - len(content), 1 << 16))
            if not part:
                raise ConnectionError("connection closed")
            content += part
        return bytes(content)
