"""Forgetting a board, and leaving nothing on it that nobody else uses."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from ofa_tvm.boards.host_keys import forget_host
from ofa_tvm.boards.lifecycle import PROBE_LIMIT_S, remove_link_pid, service_of
from ofa_tvm.boards.link_control import stop_link
from ofa_tvm.boards.link_state import forget_link
from ofa_tvm.boards.login import connect
from ofa_tvm.boards.registry import COMMAND, Board, board_lock, known_hosts_file, registered_boards, remove_board
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.boards.systemd import UNIT_FILES
from ofa_tvm.errors import BoardUnreachableError, HostKeyError


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
                remove_link_pid(connection, board)
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
