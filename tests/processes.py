"""Processes and ports in tests, on a machine where others have some too, and where what is looked at ends meanwhile."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import time
from collections.abc import Callable, Iterable

import psutil

PATIENCE_S = 90.0
"""For what takes a second or two where nothing else runs."""

PORTS = range(10000, 20000)
"""Below those that Linux gives to connections, which would take a port as soon as it is free, and those of boards."""


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended; one that its parent has not taken note of has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def words_of(process: psutil.Process) -> list[str]:
    """Its command line; none once it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def below(process: psutil.Process | None = None) -> set[psutil.Process]:
    """What lives of what a process has started, or this one, and of what that has started in turn."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return {child for child in (process or psutil.Process()).children(recursive=True) if lives(child)}
    return set()


def send(processes: Iterable[psutil.Process], number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to those that are still there."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    """Addresses and ports where it listens; none once it has ended, or is about to and may not be looked at."""
    try:
        connections = process.net_connections("inet")
    except psutil.Error:
        return set()
    return {(each.laddr.ip, each.laddr.port) for each in connections if each.status == psutil.CONN_LISTEN}


def await_true(
    condition: Callable[[], object], limit_s: float = PATIENCE_S, what: object = "it did not happen"
) -> None:
    """Wait until a condition holds, and fail if it does not within the limit; `what` may be a function that tells."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, what() if callable(what) else what
        time.sleep(0.05)


def free_port() -> int:
    """A port of this host's loopback for a program that can only be told its number."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port of {PORTS} is free")
