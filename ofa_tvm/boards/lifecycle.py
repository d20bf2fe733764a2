"""Starting and stopping what it takes for a board to be seen at a tracker: its link here, its server there."""

from __future__ import annotations

import contextlib
import shlex
import socket
import time
from collections.abc import Callable

from ofa_tvm.addresses import is_loopback, join_address
from ofa_tvm.boards.link_control import link_status, start_link, stop_link
from ofa_tvm.boards.link_state import link_pid_file
from ofa_tvm.boards.login import connect
from ofa_tvm.boards.ports import with_port, with_ports_of
from ofa_tvm.boards.registry import (
    Board,
    board_lock,
    known_hosts_file,
    save_board,
    setup_command,
)
from ofa_tvm.boards.service import Service, ShellService, server_command
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.boards.systemd import UNIT_FILES, SystemdService
from ofa_tvm.errors import BoardSetUpError, BoardUnreachableError, TrackerUnreachableError
from ofa_tvm.measurement.loopback import LOOPBACK
from ofa_tvm.measurement.tracker import TrackerAddress, summarize

SEEN_LIMIT_S = 90.0
SEEN_POLL_S = 0.1
LOG_POLL_S = 2.0
MOST_FAILURES = 3
PROBE_LIMIT_S = 20.0
LAN_WARNING = (
    "{name} listens on the network, on port {port}: TVM RPC runs any code it is sent, without a password, for whoever"
    " reaches it; use --lan in a network that you trust only"
)


def start(board: Board, tracker: TrackerAddress, say: Callable[[str], None], *, tethered: bool = False) -> Board:
    """Make a board that was set up a device at the tracker; what runs already is left alone.

    When that fails, what was started for it is stopped again.

    Parameters
    ----------
    say
        Is told each step, in a line.
    tethered
        The link ends with the thread that calls this.

    Returns
    -------
    board
        With the ports it got.

    Raises
    ------
    TrackerUnreachableError
        No tracker answers there.
    HostKeyError, BoardUnreachableError
        The board can't be reached.
    BoardSetUpError
        Its RPC server does not start, or was not seen at the tracker in time.
    """
    with board_lock(board.name, say):
        _require_reachable(board, tracker)
        if not board.folder:
            raise BoardSetUpError(_not_set_up(board))
        board = with_ports_of(board)
        with (
            connect(board.address, known_hosts=known_hosts_file(), identity=board.identity) as connection,
            contextlib.ExitStack() as undo,
        ):
            if connection.run(f"test -e {shlex.quote(board.folder)}/complete", PROBE_LIMIT_S).code:
                raise BoardSetUpError(_not_set_up(board))
            service = service_of(connection, board)
            board = with_port(board, connection, service)
            if board.lan:
                stop_link(board)
                say(LAN_WARNING.format(name=board.name, port=board.port))
                host = connection.host_address() if _is_loopback(tracker) else tracker.host
                seen_by_board = join_address(host, tracker.port)
            else:
                save_board(board)  # the link reads it
                before = link_status(board)
                board = board.model_copy(update={"tracker_port": start_link(board, tracker, tethered=tethered)})
                if (link := link_status(board)) and (before is None or before.pid != link.pid):
                    undo.callback(stop_link, board)
                seen_by_board = f"{LOOPBACK}:{board.tracker_port}"
            save_board(board)
            command = server_command(board, seen_by_board)
            if not _is_served(board, service, command, tracker):
                say(f"starting the RPC server on {board.name}")
                undo.callback(_stop_server, connection, board)
                service.start(command)
            _await_device(board, tracker, service)
            undo.pop_all()
            _remove_old_runtimes(connection, board)
        say(f"{board.name} is at tracker {tracker} as {board.key}")
        return board


def stop(board: Board, say: Callable[[str], None]) -> None:
    """Stop the server on the board, and the link; nothing of either is left.

    Raises
    ------
    BoardUnreachableError
        The board can't be reached: the link has been stopped, and the server can't be.
    """
    with board_lock(board.name, say):
        try:
            with connect(board.address, known_hosts=known_hosts_file(), identity=board.identity) as connection:
                service_of(connection, board).stop()
                remove_link_pid(connection, board)
        except BoardUnreachableError as error:
            raise BoardUnreachableError(
                f"the link to {board.name} is stopped, but its RPC server may run on: {error}"
            ) from error
        finally:
            stop_link(board)
        say(f"{board.name} is stopped")


def service_of(connection: SshConnection, board: Board) -> Service:
    """What keeps the RPC server of this board running."""
    return SystemdService(connection, board) if board.systemd else ShellService(connection, board)


def _not_set_up(board: Board) -> str:
    return f"{board.name} is not set up, or no longer as this version needs it; type: {setup_command(board)}"


def _require_reachable(board: Board, tracker: TrackerAddress) -> None:
    """A tracker tells clients the address that a registration comes from: out of a link, that is its own host's."""
    summarize(tracker)
    if not board.lan and not _is_loopback(tracker):
        raise TrackerUnreachableError(
            f"{board.name} comes to this host's loopback, where clients of the tracker {tracker} would not find it;"
            f" use a tracker on 127.0.0.1, or set {board.name} up with --lan"
        )


def _is_loopback(tracker: TrackerAddress) -> bool:
    return is_loopback(str(socket.getaddrinfo(tracker.host, tracker.port)[0][4][0]))


def _is_served(board: Board, service: Service, command: list[str], tracker: TrackerAddress) -> bool:
    """Whether this server runs there, and not only now and then."""
    status = service.status()
    if not status.running or status.command != service.written(command):
        return False
    return status.failures < MOST_FAILURES or seen_at(board, tracker)


def _stop_server(connection: SshConnection, board: Board) -> None:
    """As far as the board still answers; what brought us here is the thing to tell."""
    with contextlib.suppress(BoardUnreachableError):
        service_of(connection, board).stop()
        remove_link_pid(connection, board)


def remove_link_pid(connection: SshConnection, board: Board) -> None:
    """Of a link that is to be made no more."""
    connection.run(f"rm -f {shlex.quote(link_pid_file(board))}", PROBE_LIMIT_S)


def _await_device(board: Board, tracker: TrackerAddress, service: Service) -> None:
    deadline = time.monotonic() + SEEN_LIMIT_S
    next_look = time.monotonic() + LOG_POLL_S
    while not seen_at(board, tracker):
        if time.monotonic() > next_look:
            status = service.status()
            if not status.running:
                raise BoardSetUpError(f"the RPC server of {board.name} ended: {status.last_words}")
            if status.failures >= MOST_FAILURES:
                raise BoardSetUpError(f"the RPC server of {board.name} ends at once, every time: {status.last_words}")
            next_look = time.monotonic() + LOG_POLL_S
        if time.monotonic() > deadline:
            hint = (
                "; does the tracker listen on the network (start_rpc_tracker.sh --host 0.0.0.0)?" if board.lan else ""
            )
            raise BoardSetUpError(
                f"{board.name} was not seen at tracker {tracker} within {SEEN_LIMIT_S:.0f} s; the last its RPC server"
                f" said: {service.status().last_words}{hint}"
            )
        time.sleep(SEEN_POLL_S)


def seen_at(board: Board, tracker: TrackerAddress) -> bool:
    """Whether the tracker has this very board."""
    with contextlib.suppress(TrackerUnreachableError):
        addresses = summarize(tracker).addresses.get(board.key, ())
        return any(address.endswith(f":{board.port}") for address in addresses)
    return False


def _remove_old_runtimes(connection: SshConnection, board: Board) -> None:
    """Those of earlier versions, unless a server runs from them."""
    folder, _, own = board.folder.rpartition("/")
    connection.run(
        f"""cd {shlex.quote(folder)} || exit 0
        for old in python-* native-*; do
            [ "$old" = {shlex.quote(own)} ] || [ ! -d "$old" ] && continue
            grep -qs "/$old/" run/*/command {UNIT_FILES} || rm -rf "$old"
        done""",
        PROBE_LIMIT_S,
    )
