"""Start, find and stop emulated boards."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from ofa_tvm.boards.emulation.arm64 import enable_arm64
from ofa_tvm.boards.emulation.folders import locked
from ofa_tvm.boards.emulation.launch import await_sshd, end, launch
from ofa_tvm.boards.emulation.processor import processor_of
from ofa_tvm.boards.emulation.requirements import require_host
from ofa_tvm.boards.emulation.rootfs import base_root
from ofa_tvm.boards.emulation.state import EmulatedBoard, board_folders, processes_of
from ofa_tvm.errors import EmulationError
from ofa_tvm.reporting import Say
from ofa_tvm.targets import Target

__all__ = ["EmulatedBoard", "clean_stale", "find_boards", "start_board", "stop_board"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
DOING = "starts or ends an emulated board"


def start_board(target: Target, name: str, folder: Path, say: Say, *, tethered: bool) -> EmulatedBoard:
    """Start a board with the target's core; its sshd answers when this returns.

    Parameters
    ----------
    name
        Its host name, and that of its folder below `folder`.
    folder
        Where boards keep their state and what they write.
    say
        Told what takes long, and what is otherwise than asked.
    tethered
        The kernel kills the board when the thread that calls this ends, however that happens.

    Raises
    ------
    EmulationError
        It can't be started: something is missing here, a board of this name runs, or sshd did not answer.
    """
    if not NAME.fullmatch(name):
        raise EmulationError(f"{name!r} is no name for a board; use letters, digits, '-', '_' and '.'")
    require_host()
    processor = processor_of(target, say)
    enable_arm64(say)
    base = base_root(say)
    folder = folder.resolve()
    with locked(folder, DOING, say):
        _remove_stale(folder)
        if _is_taken(folder / name):
            raise EmulationError(f"board {name} runs already (its state is {folder / name}); stop it, or name another")
        board = launch(base, processor, target, name, folder / name, tethered=tethered)
    try:
        await_sshd(board)
    except BaseException:
        stop_board(board)
        raise
    return board


def find_boards(folder: Path) -> list[EmulatedBoard]:
    """The running boards whose state is below `folder`, by name."""
    boards = []
    for path in board_folders(folder.resolve()):
        with contextlib.suppress(EmulationError):  # damaged or gone: `clean_stale` removes it
            if processes_of(path):
                boards.append(EmulatedBoard.load(path))
    return boards


def stop_board(board: EmulatedBoard) -> None:
    """Kill a board and remove everything of it; nothing happens if it is gone already.

    Raises
    ------
    EmulationError
        Something of it resists.
    """
    end(board.folder, board)


def clean_stale(folder: Path) -> None:
    """Remove what is left below `folder` of boards that were killed, and boards whose state can't be read."""
    if folder.is_dir():
        with locked(folder.resolve(), DOING):
            _remove_stale(folder.resolve())


def _remove_stale(folder: Path) -> None:
    for path in board_folders(folder):
        try:
            board = EmulatedBoard.load(path)
        except EmulationError:
            end(path, None)
        else:
            if not processes_of(path):
                end(path, board)


def _is_taken(path: Path) -> bool:
    """An empty folder is what a start that was killed at once has left."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))
