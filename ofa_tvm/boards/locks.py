"""Locks between commands: held on files that vanish when they are not needed any more, or on folders themselves."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ofa_tvm.errors import DeviceError
from ofa_tvm.files import output_errors

LOCK_LIMIT_S = 2400.0
"""Longer than the longest step that is done under a lock: packages, a build and an installation, each at its limit."""
SILENT_S = 2.0
POLL_S = 0.05

Say = Callable[[str], None]


@contextlib.contextmanager
def file_locked(path: Path, what: str, say: Say = lambda _: None) -> Iterator[None]:
    """Hold a lock that also ends with the process; whoever holds it may remove the file.

    Parameters
    ----------
    what
        What other commands may be busy with.
    say
        Is told in a line when that takes a while.

    Raises
    ------
    DeviceError
        It could not be had.
    OutputError
        The file can't be written.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    deadline = _Deadline(what, say)
    while True:
        with output_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _acquire(descriptor, deadline)
            if _is_at(path, descriptor):  # else it was removed by the one who had it
                yield
                return
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def folder_locked(folder: Path, what: str, say: Say = lambda _: None) -> Iterator[None]:
    """The same on a folder, which is made if need be; no file is left.

    Raises
    ------
    DeviceError
        It could not be had.
    OutputError
        The folder can't be made.
    """
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _acquire(descriptor, _Deadline(what, say))
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file for as long as it stays open; False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Deadline:
    """When to say that we wait, and when to stop."""

    def __init__(self, what: str, say: Say) -> None:
        self._what, self._say, self._said = what, say, False
        self._begun = time.monotonic()

    def check(self) -> None:
        waited = time.monotonic() - self._begun
        if waited > LOCK_LIMIT_S:
            raise DeviceError(f"another command is still busy with {self._what}; wait for it, or end it")
        if waited > SILENT_S and not self._said:
            self._say(f"waiting for another command that is busy with {self._what}")
            self._said = True


def _acquire(descriptor: int, deadline: _Deadline) -> None:
    while not try_lock(descriptor):
        deadline.check()
        time.sleep(POLL_S)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
