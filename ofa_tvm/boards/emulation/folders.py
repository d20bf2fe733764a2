"""Folders that several processes work in: one at a time, and removed while another may still write."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ofa_tvm.errors import EmulationError

POLL_PERIOD_S = 0.05


@contextlib.contextmanager
def locked(folder: Path, limit_s: float) -> Iterator[None]:
    """Hold the lock of `folder`, which is made if need be; no file is left, and a killed holder loses it.

    Raises
    ------
    EmulationError
        The folder can't be made, or another process held the lock for longer than `limit_s`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise EmulationError(
            f"cannot use {folder} for emulated boards: {error.strerror}; name another place"
        ) from error
    try:
        _acquire(handle, folder, limit_s)
        yield
    finally:
        os.close(handle)


def remove_tree(folder: Path, limit_s: float) -> None:
    """Remove a folder, as long as it takes; `limit_s` is for what comes anew meanwhile.

    Raises
    ------
    EmulationError
        Something of it is left.
    """
    deadline = time.monotonic() + limit_s
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists():
        if time.monotonic() > deadline:
            raise EmulationError(f"cannot remove all of {folder}; remove it as root")
        time.sleep(POLL_PERIOD_S)
        shutil.rmtree(folder, ignore_errors=True)


def _acquire(handle: int, folder: Path, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise EmulationError(
                    f"another process has held {folder} for {limit_s:.0f} s; try again later"
                ) from error
        time.sleep(POLL_PERIOD_S)
