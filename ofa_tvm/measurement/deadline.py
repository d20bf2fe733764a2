"""A time limit for calls that can't be given one, such as TVM's RPC, which waits for ever in C++."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import stat
import threading
from collections.abc import Callable
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
        raise result.error
    return result


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


def shut_connections(host: str, port: int) -> None:
    """Shut down all of this process's TCP connections to an address, whoever owns the descriptors.

    TVM does not tell the descriptor of an RPC session; a blocked receive on it returns at once.
    """
    peers = {info[4][:2] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile, or not connected
            if not stat.S_ISSOCK(entry.stat().st_mode):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as duplicate:
                if duplicate.family in (socket.AF_INET, socket.AF_INET6) and duplicate.getpeername()[:2] in peers:
                    duplicate.shutdown(socket.SHUT_RDWR)
