"""The link of a board: a process of its own that holds the SSH connection, with a port forwarded each way.

The board's loopback port leads to the tracker, this host's loopback port to the RPC server on the board. When the
connection is cut, or the board stays silent, it is made again, for as long as the process lives.

Started by `ofa_tvm.boards.link_control`; not meant to be called by users::

    python -m ofa_tvm.boards.link NAME TRACKER_HOST TRACKER_PORT READY_DESCRIPTOR detached|tethered
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import signal
import sys
import time
from typing import TextIO

import stamina
import stamina.instrumentation

from ofa_tvm.boards.link_state import link_file
from ofa_tvm.boards.link_upkeep import Link
from ofa_tvm.boards.registry import load_board
from ofa_tvm.errors import DeviceError, HostKeyError, OfaTvmError
from ofa_tvm.locks import lock_until

LOCK_LIMIT_S = 3.0
LOG_BYTES = 1 << 18

log = logging.getLogger(__name__)


def main() -> int:
    """Bring the link up, say so to the process that waits for it, and keep it up."""
    name, host, port, ready = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    os.set_inheritable(ready, False)
    if sys.argv[5] == "detached" and os.fork():
        os._exit(0)  # nobody's child, the link needs nobody to bury it
    _log_to_file(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _end(name))
    with link_file(name, "lock").open("a") as lock, os.fdopen(ready, "w", buffering=1) as starter:
        _answer(starter, os.getpid())
        try:
            _take(lock.fileno(), name)
            link = Link(load_board(name), (host, port))
            link.bring_up()
        except OfaTvmError as error:
            log.error("%s", error)
            _answer(starter, {"error": type(error).__name__, "message": str(error)})
            return error.exit_code
        if not _answer(starter, {"tracker_port": link.tracker_port}):
            log.error("nobody waits for this link any more")
            _end(name)
        starter.close()
        os.chdir("/")
        try:
            link.keep_up()
        except HostKeyError as error:
            log.error("%s", error)
            link.tell("ended", str(error))
            return error.exit_code
    return 0


def _answer(starter: TextIO, content: object) -> bool:
    """A line to the process that waits for us; False if it does not."""
    try:
        starter.write(json.dumps(content) + "\n")
    except BrokenPipeError:
        return False
    return True


def _take(descriptor: int, name: str) -> None:
    if not lock_until(descriptor, time.monotonic() + LOCK_LIMIT_S):
        raise DeviceError(f"{name} has a link already; python -m ofa_tvm.devices stop {name} ends it")
    link_file(name, "json").unlink(missing_ok=True)  # of one that was killed
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())


def _log_to_file(name: str) -> None:
    path = link_file(name, "log")
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    stamina.instrumentation.set_on_retry_hooks([_log_retry])


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    log.info("%s; next try in %.1f s", details.caused_by, details.wait_for)


def _end(name: str) -> None:
    """At once: threads that wait for the board would keep a polite exit waiting, too."""
    link_file(name, "json").unlink(missing_ok=True)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
