"""A time limit for calls that can't be given one, such as TVM's RPC, which waits for ever in C++."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

ABORT_GRACE_S = 2.0


def within(timeout_s: float, call: Callable[[], Result], abort: Callable[[], None]) -> Result:
    """Result of ``call()``; if it takes longer, or the user interrupts it, `abort` is to make it return.

    The call runs in a thread of its own, so that Ctrl-C gets through while it waits. A call that does
    not return even after `abort` is left behind as a daemon thread, which does not keep the process alive.

    Raises
    ------
    TimeoutError
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
            raise TimeoutError(f"no answer within {timeout_s:g} s") from None
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

    TVM does not tell the descriptor of an RPC session; a blocked receive on it returns at once.
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


def _connections(host: str, port: int) -> Iterator[socket.socket]:
    """Duplicates of this process's TCP connections to an address."""
    peers = {info[4][:2] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile, or not connected
            if not stat.S_ISSOCK(entry.stat().st_mode):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as duplicate:
                if duplicate.family in (socket.AF_INET, socket.AF_INET6) and duplicate.getpeername()[:2] in peers:
                    yield duplicate
