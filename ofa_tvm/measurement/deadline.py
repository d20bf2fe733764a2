"""A time limit for calls that can't be given one, such as TVM's RPC, which waits for ever in C++."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import psutil

Result = TypeVar("Result")

ABORT_GRACE_S = 2.0


class NoAnswerError(TimeoutError):
    """A call took longer than it may."""


def within(timeout_s: float, call: Callable[[], Result], abort: Callable[[], None]) -> Result:
    """Result of ``call()``; if it takes longer, or the user interrupts it, `abort` is to make it return.

    The call runs in a thread of its own, so that Ctrl-C gets through while it waits. A call that does
    not return even after `abort` is left behind as a daemon thread, which does not keep the process alive.

    Raises
    ------
    NoAnswerError
        The call did not return within `timeout_s`.
    Exception
        Whatever the call raised.
    """
    outcome: queue.SimpleQueue[Result | _Raised] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            outcome.put(call())
        except BaseException as error:
            outcome.put(_Raised(error))

    threading.Thread(target=attempt, name="rpc-call", daemon=True).start()
    try:
        result = outcome.get(timeout=timeout_s)
    except BaseException as error:
        abort()
        with contextlib.suppress(queue.Empty):
            outcome.get(timeout=ABORT_GRACE_S)
        if isinstance(error, queue.Empty):
            raise NoAnswerError(f"no answer within {timeout_s:g} s") from None
        raise
    if isinstance(result, _Raised):
        try:
            raise result.error
        finally:
            del result  # else error, traceback and this frame would hold each other until some garbage collection
    return result


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


def shut_connections(host: str, port: int) -> None:
    """Shut down all of this process's TCP connections to an address, whoever owns the descriptors.

    TVM does not tell the descriptor of an RPC session; a blocked receive on it returns at once, and so does a
    connect that nobody has answered yet.
    """
    for connection in _connections(host, port):
        with contextlib.suppress(OSError):  # the other end was quicker
            connection.shutdown(socket.SHUT_RDWR)


def limit_receives(host: str, port: int, timeout_s: float) -> None:
    """Let a receive on this process's TCP connections to an address fail that waits longer.

    The last resort: TVM frees what an object stands for on a device when the object goes, and waits for the answer
    with Python's lock held, so that no other thread could cut the connection to a device that hangs.
    """
    limit = struct.pack("@ll", math.ceil(timeout_s), 0)
    for connection in _connections(host, port):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)


def is_connected(host: str, port: int) -> bool:
    """Whether this process has a connection to an address that the other end has not closed."""
    return any(status == psutil.CONN_ESTABLISHED for _, status in _descriptors(host, port))


def _connections(host: str, port: int) -> Iterator[socket.socket]:
    """Duplicates of this process's TCP connections to an address, those that are still being made among them."""
    for descriptor, _ in _descriptors(host, port):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as duplicate:  # or closed meanwhile
            yield duplicate


def _descriptors(host: str, port: int) -> list[tuple[int, str]]:
    """With their states, as the kernel lists them: a socket itself has no peer before it is connected."""
    peers = {(_zoneless(info[4][0]), info[4][1]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    connections = psutil.Process().net_connections("tcp")
    return [
        (found.fd, found.status)
        for found in connections
        if found.raddr and (_zoneless(found.raddr[0]), found.raddr[1]) in peers
    ]


def _zoneless(host: object) -> str:
    """An IPv6 address without its zone, which the kernel's list does not have."""
    return str(host).partition("%")[0]
