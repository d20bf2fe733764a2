"""Locks between processes: on an open file, on a path whose file may come and go, on a folder.

All are advisory (``flock``) and end with the process that holds them, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ofa_tvm.errors import DeviceError
from ofa_tvm.files import output_errors
from ofa_tvm.reporting import Say

LOCK_LIMIT_S = 2400.0
"""Longer than the longest step of setting a board up: packages, a build, an installation, each at its limit."""
SILENT_S = 2.0
POLL_S = 0.05


def try_lock(descriptor: int) -> bool:
    """Lock an open file for as long as it stays open; False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_until(descriptor: int, deadline_s: float) -> bool:
    """Try once, and again until `deadline_s` on `time.monotonic`; False if another process had it all the time."""
    while not try_lock(descriptor):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True


@contextlib.contextmanager
def file_locked(path: Path, doing: str, say: Say = lambda _: None, limit_s: float = LOCK_LIMIT_S) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be, as is its folder; whoever holds it may remove the file.

    Parameters
    ----------
    doing
        What another command that has the lock does, as in "measures for records.jsonl".
    say
        Is told in a line when that takes a while.
    limit_s
        To wait at most; `math.inf` is for ever.

    Raises
    ------
    DeviceError
        Another process had it all the time.
    OutputError
        The file can't be written, or not locked.
    """
    deadline_s = time.monotonic() + limit_s
    while True:
        with output_errors(path):
            descriptor = _open(path)
        try:
            _acquire(descriptor, path, doing, say, deadline_s)
            if _is_at(path, descriptor):  # else it was removed by the one who had it
                yield
                return
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def folder_locked(folder: Path, doing: str, say: Say = lambda _: None, limit_s: float = LOCK_LIMIT_S) -> Iterator[None]:
    """Hold the lock of a folder, which is made if need be; no file is left. Parameters and errors: as `file_locked`."""
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _acquire(descriptor, folder, doing, say, time.monotonic() + limit_s)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open a lock file, made if need be. Locking one that belongs to somebody else takes no right to write it.

    Opened for writing where that is allowed: over NFS an exclusive lock needs it. Never with O_CREAT if it exists:
    in a folder like /tmp, Linux would refuse that for another's file.
    """
    while True:
        try:
            return os.open(path, os.O_RDWR)
        except PermissionError:
            return os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _acquire(descriptor: int, path: Path, doing: str, say: Say, deadline_s: float) -> None:
    with output_errors(path):
        if lock_until(descriptor, min(time.monotonic() + SILENT_S, deadline_s)):
            return
    say(f"waiting for another command that {doing}")
    with output_errors(path):
        if lock_until(descriptor, deadline_s):
            return
    raise DeviceError(f"another command that {doing} has not ended yet; wait for it, or end it")


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
