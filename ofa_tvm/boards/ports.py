"""Which ports a board uses: its own, the same here and there, and kept for as long as nobody else takes them."""

from __future__ import annotations

import contextlib
import random
import socket

import paramiko

from ofa_tvm.boards.link_control import link_status
from ofa_tvm.boards.registry import Board, board_names, load_board
from ofa_tvm.boards.service import Service
from ofa_tvm.boards.ssh import SshConnection, one_line
from ofa_tvm.errors import BoardSetUpError, BoardUnreachableError
from ofa_tvm.measurement.loopback import LOOPBACK

PROBE_LIMIT_S = 20.0
CONNECTION_REFUSED = 2
"""An SSH server's word for a port where nobody listens (RFC 4254, section 5.1)."""

PORTS = range(20000, 30000)
"""For RPC servers: below the ports that Linux gives to outgoing connections."""


def with_ports_of(board: Board) -> Board:
    """The board with the ports that another command has given it meanwhile."""
    saved = known_board(board.name)
    return board.model_copy(update={"port": saved.port, "tracker_port": saved.tracker_port}) if saved else board


def known_board(name: str) -> Board | None:
    """What is known of a board, if anything is."""
    return load_board(name) if name in board_names() else None


def with_port(board: Board, connection: SshConnection, service: Service) -> Board:
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
        raise BoardUnreachableError(f"the connection to {connection.address} failed: {one_line(error)}") from error
    return False
