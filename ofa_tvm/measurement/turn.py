"""Commands that measure for the same records take turns."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

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
