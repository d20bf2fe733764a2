"""What is there: the tracker's devices, and the boards that this host knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ofa_tvm.boards.emulation.board import find_boards
from ofa_tvm.boards.link_control import link_status
from ofa_tvm.boards.link_state import LinkState
from ofa_tvm.boards.registry import Board, board_names, emulated_folder, load_board
from ofa_tvm.errors import DeviceError, UsageError
from ofa_tvm.measurement.tracker import TrackerAddress, TrackerSummary, summarize


@dataclass(frozen=True, slots=True)
class KeyCount:
    """The devices of one key at the tracker, and the requests that wait for one."""

    key: str
    registered: int
    free: int
    waiting: int
    addresses: tuple[str, ...]

    @property
    def busy(self) -> int:
        """How many are in use."""
        return self.registered - self.free


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """A board that was set up from here.

    Attributes
    ----------
    link
        None if none runs.
    gone
        It was an emulated one and does not run any more.
    """

    board: Board
    link: LinkState | None
    gone: bool

    @property
    def state(self) -> str:
        """In a word or two."""
        if self.gone:
            return "gone"
        if self.board.lan:
            return "on the network"
        return f"link {self.link.state}" if self.link else "no link"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the tracker and this host know; `trouble` if the tracker does not answer."""

    tracker: TrackerAddress
    trouble: str | None
    keys: tuple[KeyCount, ...]
    boards: tuple[BoardStatus, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "tracker": str(self.tracker),
            "trouble": self.trouble,
            "keys": [
                {
                    "key": count.key,
                    "registered": count.registered,
                    "free": count.free,
                    "busy": count.busy,
                    "waiting": count.waiting,
                    "addresses": list(count.addresses),
                }
                for count in self.keys
            ],
            "boards": [
                {
                    "name": status.board.name,
                    "target": status.board.target,
                    "address": str(status.board.address),
                    "emulated": status.board.emulated,
                    "state": status.state,
                    "port": status.board.port,
                    "runtime": status.board.runtime,
                }
                for status in self.boards
            ],
        }


def take_inventory(tracker: TrackerAddress) -> Inventory:
    """Ask the tracker, and look at the boards known here.

    Raises
    ------
    TrackerUnreachableError
        No tracker answers, and no board is known either.
    """
    boards = tuple(map(_status, known_boards()))
    try:
        return Inventory(tracker, None, _counts(summarize(tracker)), boards)
    except DeviceError as error:
        if not boards:
            raise
        return Inventory(tracker, str(error), (), boards)


def known_boards() -> list[Board]:
    """All boards that were set up from here, by name."""
    return [load_board(name) for name in board_names()]


def is_emulated_here(board: Board) -> bool:
    """Whether this host started it as an emulated board."""
    return board.identity is not None and emulated_folder() in board.identity.parents


def boards_called(text: str) -> list[Board]:
    """The board of this name, or else all boards of the target of this name.

    Raises
    ------
    UsageError
        There is neither.
    """
    boards = known_boards()
    found = [board for board in boards if board.name == text] or [board for board in boards if board.target == text]
    if not found:
        known = ", ".join(f"{board.name} ({board.target})" for board in boards) or "none"
        raise UsageError(
            f"no board or target {text!r} was set up from here (boards: {known}); set it up:"
            f" python -m ofa_tvm.devices setup {text} --ssh USER@HOST"
        )
    return found


def is_gone(board: Board) -> bool:
    """Whether it was an emulated board that this host started, and does not run any more."""
    running = {running.identity for running in find_boards(emulated_folder())}
    return is_emulated_here(board) and board.identity not in running


def _status(board: Board) -> BoardStatus:
    return BoardStatus(board, link_status(board), is_gone(board))


def _counts(summary: TrackerSummary) -> tuple[KeyCount, ...]:
    keys = sorted(summary.registered.keys() | {key for key, waiting in summary.pending.items() if waiting})
    return tuple(
        KeyCount(
            key=key,
            registered=summary.registered.get(key, 0),
            free=summary.free.get(key, 0),
            waiting=summary.pending.get(key, 0),
            addresses=summary.addresses.get(key, ()),
        )
        for key in keys
    )
