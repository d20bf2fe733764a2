"""Installing on a board what it needs, and remembering it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ofa_tvm.boards.lifecycle import service_of
from ofa_tvm.boards.login import connect
from ofa_tvm.boards.ports import known_board
from ofa_tvm.boards.probe import Runtime
from ofa_tvm.boards.provisioning import set_up
from ofa_tvm.boards.registry import Board, board_lock, known_hosts_file, save_board


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


def _say_changes(known: Board, board: Board, say: Callable[[str], None]) -> None:
    for name in ("target", "runtime", "identity", "lan", "systemd"):
        before, now = getattr(known, name), getattr(board, name)
        if before != now:
            say(f"{board.name}: {name} was {_shown(before)}, is {_shown(now)} now")


def _shown(value: object) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value or "none")
