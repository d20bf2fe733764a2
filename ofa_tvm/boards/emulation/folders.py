"""Folders that several processes work in: one at a time, and removed while another may still write."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ofa_tvm.errors import EmulationError, OutputError
from ofa_tvm.locks import folder_locked
from ofa_tvm.reporting import Say

POLL_PERIOD_S = 0.05


@contextlib.contextmanager
def locked(folder: Path, doing: str, say: Say = lambda _: None) -> Iterator[None]:
    """Hold the lock of `folder`, as `ofa_tvm.locks.folder_locked` does.

    Raises
    ------
    EmulationError
        The folder can't be made.
    DeviceError
        Another process held the lock for too long.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder_locked(folder, doing, say))
        except OutputError as error:
            reason = getattr(error.__cause__, "strerror", None) or error
            raise EmulationError(f"cannot use {folder} for emulated boards: {reason}; name another place") from error
        yield


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
