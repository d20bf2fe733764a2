"""Setting a board up, starting and stopping what it takes to be seen at a tracker: its link here, its server there."""

from __future__ import annotations

import contextlib
import random
import shlex
import socket
import time
from collections.abc import Callable
from typing import Literal

import paramiko

from ofa_tvm.boards.forwarding import LOOPBACK
from ofa_tvm.boards.link_control import link_status, start_link, stop_link
from ofa_tvm.boards.link_state import link_pid_file
from ofa_tvm.boards.login import connect
from ofa_tvm.boards.probe import Runtime
from ofa_tvm.boards.provisioning import set_up
from ofa_tvm.boards.registry import Board, board_lock, board_names, known_hosts_file, load_board, save_board
from ofa_tvm.boards.service import Service, ShellService, server_command
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.boards.systemd import SystemdService
from ofa_tvm.errors import BoardSetUpError, BoardUnreachableError, TrackerUnreachableError
from ofa_tvm.measurement.tracker import TrackerAddress, summarize

SEEN_LIMIT_S = 90.0
SEEN_POLL_S = 0.1
LOG_POLL_S = 2.0
PROBE_LIMIT_S = 20.0
CONNECTION_REFUSED = 2
"""An SSH server's word for a port where nobody listens (RFC 4254, section 5.1)."""

PORTS = range(20000, 30000)
"""For RPC servers: below the ports that Linux gives to outgoing connections."""

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
    with board_lock(board.name):
        known = _known(board.name)
        hosts = known_hosts_file()
        with connect(
            board.address, known_hosts=hosts, accept_fingerprint=accept_fingerprint, identity=board.identity
        ) as connection:
            board, changed = set_up(connection, board, say, runtime=runtime, progress=progress)
            if known is not None and known.address == board.address:
                if known.systemd != board.systemd:  # the other way of starting it must not start it, too
                    service_of(connection, known).stop()
                board = board.model_copy(update={"port": known.port, "tracker_port": known.tracker_port})
        save_board(board)
        return board, changed


def start(board: Board, tracker: TrackerAddress, say: Callable[[str], None], *, tethered: bool = False) -> Board:
    """Make a board that was set up a device at the tracker; what runs already is left alone.

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
    with board_lock(board.name):
        summarize(tracker)
        board = _with_ports_of(board)
        with connect(board.address, known_hosts=known_hosts_file(), identity=board.identity) as connection:
            service = service_of(connection, board)
            if not board.folder or connection.run(f"test -e {shlex.quote(board.folder)}/complete", PROBE_LIMIT_S).code:
                again = f"python -m ofa_tvm.devices setup {board.name} --ssh {board.address}"
                raise BoardSetUpError(
                    f"{board.name} is not set up, or no longer as this version needs it; type: {again}"
                )
            board = _with_port(board, connection, service)
            if board.lan:
                stop_link(board)
                say(LAN_WARNING.format(name=board.name, port=board.port))
                seen_by_board = f"{connection.host_address}:{tracker.port}"
            else:
                save_board(board)  # the link reads it
                board = board.model_copy(update={"tracker_port": start_link(board, tracker, tethered=tethered)})
                seen_by_board = f"{LOOPBACK}:{board.tracker_port}"
            save_board(board)
            _start_server(board, service, server_command(board, seen_by_board), say)
            _await_device(board, tracker, service)
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
    with board_lock(board.name):
        try:
            with connect(board.address, known_hosts=known_hosts_file(), identity=board.identity) as connection:
                service_of(connection, board).stop()
                connection.run(f"rm -f {shlex.quote(link_pid_file(board))}", PROBE_LIMIT_S)
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


def _with_ports_of(board: Board) -> Board:
    """The board with the ports that another command has given it meanwhile."""
    saved = _known(board.name)
    return board.model_copy(update={"port": saved.port, "tracker_port": saved.tracker_port}) if saved else board


def _known(name: str) -> Board | None:
    return load_board(name) if name in board_names() else None


def _with_port(board: Board, connection: SshConnection, service: Service) -> Board:
    """The board with a port that is its own, here and there."""
    link = link_status(board)
    if link and link.port == board.port:
        return board
    if board.port and _free_here(board) and (service.status().running or _free_there(connection, board)):
        return board
    for port in random.sample(PORTS, 50):
        candidate = board.model_copy(update={"port": port})
        if _free_here(candidate) and _free_there(connection, candidate):
            return candidate
    raise BoardSetUpError(f"no port from {PORTS.start} to {PORTS.stop} is free both here and on {board.name}")


def _free_here(board: Board) -> bool:
    if board.lan:
        return True
    with contextlib.suppress(OSError), socket.create_server((LOOPBACK, board.port)):
        return True
    return False


def _free_there(connection: SshConnection, board: Board) -> bool:
    """Whether nobody answers on the board's loopback."""
    if board.lan:
        return True  # there is nothing to forward, and it may not be allowed; the server will say it
    destination = (LOOPBACK, board.port)
    try:
        connection.transport.open_channel("direct-tcpip", destination, destination, timeout=PROBE_LIMIT_S).close()
    except paramiko.ChannelException as error:
        if error.code == CONNECTION_REFUSED:
            return True
        raise BoardSetUpError(
            f"the SSH server of {connection.address} forwards no ports ({error.text}); allow it on the board with"
            " AllowTcpForwarding yes in /etc/ssh/sshd_config, or see --lan"
        ) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise BoardUnreachableError(f"the connection to {connection.address} failed: {error}") from error
    return False


def _start_server(board: Board, service: Service, command: list[str], say: Callable[[str], None]) -> None:
    status = service.status()
    if status.running and status.command == service.written(command):
        return
    say(f"starting the RPC server on {board.name}")
    service.start(command)


def _await_device(board: Board, tracker: TrackerAddress, service: Service) -> None:
    deadline = time.monotonic() + SEEN_LIMIT_S
    next_look = time.monotonic() + LOG_POLL_S
    while not seen_at(board, tracker):
        if time.monotonic() > next_look:
            status = service.status()
            if not status.running:
                raise BoardSetUpError(f"the RPC server of {board.name} ended: {status.last_words}")
            next_look = time.monotonic() + LOG_POLL_S
        if time.monotonic() > deadline:
            raise BoardSetUpError(
                f"{board.name} was not seen at tracker {tracker} within {SEEN_LIMIT_S:.0f} s; the last its RPC server"
                f" said: {service.status().last_words}"
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
            [ "$old" = {shlex.quote(own)} ] || [ ! -d "$old" ] || grep -qs "/$old/" run/*/command || rm -rf "$old"
        done""",
        PROBE_LIMIT_S,
    )
