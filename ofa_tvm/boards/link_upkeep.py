"""Both forwardings of a board's link: brought up, and kept up over one SSH connection after the other."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import threading
import time

import paramiko
import stamina

from ofa_tvm.addresses import join_address
from ofa_tvm.boards.forwarding import ForwardingToBoard, ForwardingToHost
from ofa_tvm.boards.link_state import LinkState, link_pid_file, write_link_state
from ofa_tvm.boards.login import connect
from ofa_tvm.boards.registry import Board, known_hosts_file
from ofa_tvm.boards.ssh import SshConnection, one_line
from ofa_tvm.errors import BoardUnreachableError, DeviceError, HostKeyError, OfaTvmError, OutputError
from ofa_tvm.measurement.loopback import LOOPBACK

ALIVE_PERIOD_S = 3.0
SILENCE_LIMIT_S = 15.0
LONGEST_PAUSE_S = 10.0
SHORT_LIMIT_S = 40.0

log = logging.getLogger(__name__)


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
