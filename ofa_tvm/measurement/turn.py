"""Commands that measure for the same records take turns."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ofa_tvm.files import output_errors
from ofa_tvm.measurement.crew import Say

LOCK = "records.lock"


@contextlib.contextmanager
def turn(records: Path, say: Say) -> Iterator[None]:
    """Wait until no other command measures for this file, however long; others then wait for this one.

    Two at once would measure the same things, and on one device each disturb the other's latencies. The lock, on a
    file beside the records, ends with the process if nothing else ends it.

    Raises
    ------
    OutputError
        The folder can't be written.
    """
    path = records.parent / LOCK
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _taken(descriptor, fcntl.LOCK_NB):
            say(f"waiting for another command that measures for {records}")
            _taken(descriptor)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int, how: int = 0) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
    except BlockingIOError:
        return False
    return True
