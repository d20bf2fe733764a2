"""Commands that measure for the same records, or on this computer, take turns."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from ofa_tvm.errors import OutputError
from ofa_tvm.locks import file_locked
from ofa_tvm.reporting import Say

LOCK = "records.lock"


def turn(records: Path, say: Say) -> contextlib.AbstractContextManager[None]:
    """Wait until no other command measures for this file, however long; others then wait for this one.

    Two at once would measure the same things, and on one device each disturb the other's latencies.

    Raises
    ------
    OutputError
        The lock, a file beside the records, can't be written.
    """
    return file_locked(records.parent / LOCK, f"measures for {records}", say, limit_s=math.inf)


class _Host:
    """The turn of a process on this computer, which all of its threads share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._turn = contextlib.ExitStack()

    @contextlib.contextmanager
    def used(self, say: Say) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._begin(say)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._turn.close()

    def _begin(self, say: Say) -> None:
        try:
            self._turn.enter_context(file_locked(host_lock(), "measures on this computer", say, limit_s=math.inf))
        except OutputError as error:
            why = error.__cause__ or error
            say(f"takes no turns with other commands that measure on this computer, for {host_lock()} can't be: {why}")


_host = _Host()


def turn_on_this_host(say: Say) -> contextlib.AbstractContextManager[None]:
    """Wait until no other command of this user measures on this computer's own CPU, for whatever records.

    A board is its tracker's to share out; this CPU is nobody's, and what runs beside a measurement spoils it. Where no
    lock can be made the command goes on, and says so.
    """
    return _host.used(say)


def host_lock() -> Path:
    """The file whose lock is the turn: among temporary files, which always can be written, unless a state is named."""
    state = os.environ.get("OFA_TVM_STATE")
    folder = Path(state) if state else Path(tempfile.gettempdir()) / f"ofa_tvm_{os.getuid()}"
    return folder / "measuring.lock"
