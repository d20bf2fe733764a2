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
import shlex
import signal
import socket
import sys
import threading
import time
from typing import TextIO

import paramiko
import stamina
import stamina.instrumentation

from ofa_tvm.addresses import join_address
from ofa_tvm.boards.forwarding import ForwardingToBoard, ForwardingToHost
from ofa_tvm.boards.link_state import LinkState, link_file, link_pid_file, write_link_state
from ofa_tvm.boards.login import connect
from ofa_tvm.boards.registry import Board, known_hosts_file, load_board
from ofa_tvm.boards.ssh import SshConnection, one_line
from ofa_tvm.errors import BoardUnreachableError, DeviceError, HostKeyError, OfaTvmError, OutputError
from ofa_tvm.locks import lock_until
from ofa_tvm.measurement.loopback import LOOPBACK

ALIVE_PERIOD_S = 3.0
SILENCE_LIMIT_S = 15.0
LONGEST_PAUSE_S = 10.0
SHORT_LIMIT_S = 40.0
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


class Link:
    """Both forwardings, over one SSH connection after the other."""

    def __init__(self, board: Board, tracker: tuple[str, int]) -> None:
        self._board, self._tracker = board, tracker
        self.tracker_port = board.tracker_port
        self._to_board = ForwardingToBoard(_listen(board), board.port, log.info)
        self._to_host: ForwardingToHost | None = None
        self._connection: SshConnection | None = None

    def bring_up(self) -> None:
        """Connect, and forward both ports.

        Raises
        ------
        HostKeyError, BoardUnreachableError
            It can't be done now.
        """
        board = self._board
        connection = connect(board.address, known_hosts=known_hosts_file(), identity=board.identity)
        try:
            connection.run(_END_PREVIOUS % shlex.quote(link_pid_file(board)), SHORT_LIMIT_S)
            self._to_host = self._forward_tracker(connection)
        except BaseException:
            connection.close()
            raise
        self._to_board.transport = connection.transport
        self._connection = connection
        self.tracker_port = self._to_host.port
        self.tell("up")
        log.info(
            "up: port %d of the board leads to the tracker, port %d here to the board", self.tracker_port, board.port
        )

    def keep_up(self) -> None:
        """Do so for ever.

        Raises
        ------
        HostKeyError
            It is another machine now.
        """
        while True:
            assert self._connection is not None
            reason = _wait_until_lost(self._connection.transport)
            log.warning("lost: %s", reason)
            self._take_down()
            self.tell("reconnecting", reason)
            again = stamina.retry_context(
                on=self._is_worth_another_try, attempts=None, timeout=None, wait_initial=0.2, wait_max=LONGEST_PAUSE_S
            )
            for attempt in again:
                with attempt:
                    self.bring_up()

    def _is_worth_another_try(self, error: Exception) -> bool:
        if not isinstance(error, OfaTvmError) or isinstance(error, HostKeyError):
            return False
        self.tell("reconnecting", str(error))
        return True

    def _forward_tracker(self, connection: SshConnection) -> ForwardingToHost:
        """On the port it had before, which the server on the board knows; on a free one at first."""
        try:
            return ForwardingToHost(connection.transport, self.tracker_port, self._tracker)
        except paramiko.SSHException as error:
            if self.tracker_port and self._connection is None:  # the first time: somebody else has taken it meanwhile
                self.tracker_port = 0
                return self._forward_tracker(connection)
            raise BoardUnreachableError(
                f"the SSH server of {self._board.address} forwards no port ({error}); allow it on the board with"
                " AllowTcpForwarding yes in /etc/ssh/sshd_config"
            ) from error

    def _take_down(self) -> None:
        assert self._connection is not None
        self._to_board.transport = None
        if self._to_host:
            self._to_host.close()
        self._connection.close()

    def tell(self, state: str, reason: str = "") -> None:
        """Let others know how the link is."""
        told = LinkState.model_validate(
            {
                "pid": os.getpid(),
                "tracker": join_address(*self._tracker),
                "port": self._board.port,
                "tracker_port": self.tracker_port,
                "state": state,
                "reason": reason,
            }
        )
        try:
            write_link_state(self._board.name, told)
        except OutputError as error:  # a full disk here is no reason to drop the board
            log.warning("%s", error)


# The SSH server holds the port of a connection that it does not know to be dead; a new one could not have it. The
# parent of this shell is the process that serves this connection.
_END_PREVIOUS = """
file=%s
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }
if [ -r "$file" ] && read -r pid start <"$file" && [ "$pid" != "$PPID" ] && [ "$(started "$pid")" = "$start" ]; then
    kill "$pid" 2>/dev/null
    tries=0
    while [ "$(started "$pid")" = "$start" ] && [ "$tries" -lt 30 ]; do
        [ "$tries" -eq 10 ] && kill -9 "$pid" 2>/dev/null
        sleep 0.1 2>/dev/null || sleep 1
        tries=$((tries + 1))
    done
fi
mkdir -p "${file%%/*}" && echo "$PPID $(started "$PPID")" >"$file"
"""


def _wait_until_lost(transport: paramiko.Transport) -> str:
    """Return when the connection is cut, or when the board has not answered for a while."""
    answered = time.monotonic()

    def ask() -> None:
        nonlocal answered
        while transport.is_active():
            transport.global_request("keepalive@openssh.com", wait=True)
            answered = time.monotonic()
            time.sleep(ALIVE_PERIOD_S)

    threading.Thread(target=ask, name="keepalive", daemon=True).start()
    while transport.is_active():
        transport.join(0.2)
        if time.monotonic() - answered > SILENCE_LIMIT_S:
            return f"the board has been silent for {SILENCE_LIMIT_S:.0f} s"
    error = transport.get_exception()
    return "the connection was cut" if error is None or isinstance(error, EOFError) else one_line(error)


def _listen(board: Board) -> socket.socket:
    try:
        return socket.create_server((LOOPBACK, board.port))
    except OSError as error:
        raise DeviceError(f"port {board.port} of this host, which is to lead to {board.name}, is taken") from error


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
