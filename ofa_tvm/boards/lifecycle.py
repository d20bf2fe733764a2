"""Setting a board up, starting and stopping what it takes to be seen at a tracker: its link here, its server there."""

from __future__ import annotations

import contextlib
import shlex
import socket
import time
from collections.abc import Callable
from typing import Literal

from ofa_tvm.addresses import is_loopback, join_address
from ofa_tvm.boards.host_keys import forget_host
from ofa_tvm.boards.link_control import link_status, start_link, stop_link
from ofa_tvm.boards.link_state import forget_link, link_pid_file
from ofa_tvm.boards.login import connect
from ofa_tvm.boards.ports import known_board, with_port, with_ports_of
from ofa_tvm.boards.probe import Runtime
from ofa_tvm.boards.provisioning import set_up
from ofa_tvm.boards.registry import (
    COMMAND,
    Board,
    board_lock,
    known_hosts_file,
    registered_boards,
    remove_board,
    save_board,
    setup_command,
)
from ofa_tvm.boards.service import Service, ShellService, server_command
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.boards.systemd import UNIT_FILES, SystemdService
from ofa_tvm.errors import BoardSetUpError, BoardUnreachableError, HostKeyError, TrackerUnreachableError
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


def install(
    board: Board,
    say: Callable[[str], None],
    *,
    runtime: Runtime | Literal["auto"] = "auto",
    accept_fingerprint: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Board, bool]:
    """Install on a board what it needs, and remember it; what is there already is left alone.

    Parameters
    ----------
    progress
        Is told bytes that have arrived there, and bytes in all.

    Returns
    -------
    board, changed
        The board as it is remembered; whether anything had to be installed.

    Raises
    ------
    HostKeyError, BoardUnreachableError, BoardSetUpError
        As `connect` and `set_up`.
    """
    with board_lock(board.name, say):
        known = known_board(board.name)
        hosts = known_hosts_file()
        with connect(
            board.address, known_hosts=hosts, accept_fingerprint=accept_fingerprint, identity=board.identity
        ) as connection:
            board, changed = set_up(connection, board, say, runtime=runtime, progress=progress)
            if known is not None and known.address == board.address:
                if known.systemd != board.systemd:  # the other way of starting it must not start it, too
                    service_of(connection, known).stop()
                board = board.model_copy(update={"port": known.port, "tracker_port": known.tracker_port})
        if known is not None:
            _say_changes(known, board, say)
        save_board(board)
        return board, changed


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
                _remove_link_pid(connection, board)
        except BoardUnreachableError as error:
            raise BoardUnreachableError(
                f"the link to {board.name} is stopped, but its RPC server may run on: {error}"
            ) from error
        finally:
            stop_link(board)
        say(f"{board.name} is stopped")


def remove(board: Board, say: Callable[[str], None], *, forget: bool = False) -> None:
    """Stop a board, remove from it what no other server there uses, and forget it and its host key.

    Parameters
    ----------
    forget
        Also if the board can't be reached: then what is on it stays there.

    Raises
    ------
    HostKeyError, BoardUnreachableError
        The board can't be reached; it is still known then.
    """
    with board_lock(board.name, say):
        others = [known for known in registered_boards(say) if known.name != board.name]
        hosts = known_hosts_file()
        try:
            with connect(board.address, known_hosts=hosts, identity=board.identity) as connection:
                service_of(connection, board).stop()
                _remove_link_pid(connection, board)
                if not any((known.address, known.folder) == (board.address, board.folder) for known in others):
                    _remove_runtime(connection, board)
        except (BoardUnreachableError, HostKeyError) as error:
            if not forget:
                raise type(error)(
                    f"{error}; to forget {board.name} and leave what is on it there:"
                    f" {COMMAND} remove {board.name} --forget"
                ) from error
            say(f"what is on {board.name} stays there: {error}")
        stop_link(board)
        forget_link(board.name)
        if not any(known.address.known_hosts_name == board.address.known_hosts_name for known in others):
            forget_host(hosts, board.address.known_hosts_name)
        remove_board(board.name)
        say(f"{board.name} is removed")


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


def _say_changes(known: Board, board: Board, say: Callable[[str], None]) -> None:
    for name in ("target", "runtime", "identity", "lan", "systemd"):
        before, now = getattr(known, name), getattr(board, name)
        if before != now:
            say(f"{board.name}: {name} was {_shown(before)}, is {_shown(now)} now")


def _shown(value: object) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value or "none")


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
        _remove_link_pid(connection, board)


def _remove_link_pid(connection: SshConnection, board: Board) -> None:
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


def _remove_runtime(connection: SshConnection, board: Board) -> None:
    """Unless a server runs from it; and what is empty then."""
    folder, _, own = board.folder.rpartition("/")
    if own:
        connection.run(
            f"""cd {shlex.quote(folder)} || exit 0
            grep -qs {shlex.quote(f"/{own}/")} run/*/command {UNIT_FILES} || rm -rf {shlex.quote(own)}
            rmdir run links "$PWD" 2>/dev/null""",
            PROBE_LIMIT_S,
        )
