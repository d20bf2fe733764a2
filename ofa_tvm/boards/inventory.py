"""What is there: the tracker's devices, and the boards that this host knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ofa_tvm.boards.emulation.board import EmulatedBoard, find_boards
from ofa_tvm.boards.link_state import LinkState, read_link_state
from ofa_tvm.boards.registry import (
    COMMAND,
    Board,
    board_names,
    emulated_folder,
    is_emulated_here,
    load_board,
    registered_boards,
)
from ofa_tvm.errors import DeviceError, UsageError
from ofa_tvm.measurement.tracker import TrackerAddress, TrackerSummary, summarize
from ofa_tvm.reporting import Say
from ofa_tvm.targets import EMULATED_SUFFIX, known_targets


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
        One that runs, or gave up; None if there is none.
    gone
        It was an emulated one and does not run any more.
    """

    board: Board
    link: LinkState | None
    gone: bool = False

    @property
    def state(self) -> str:
        """In a word or two."""
        if self.gone:
            return "gone"
        if not self.board.folder:
            return "not set up"
        if self.board.lan:
            return "on the network"
        return f"link {self.link.state}" if self.link else "no link"

    @property
    def reason(self) -> str:
        """Why the link is not up, if that is known."""
        return self.link.reason if self.link and not self.gone else ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the tracker and this host know.

    Attributes
    ----------
    trouble
        Why the tracker does not answer, if it does not.
    """

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
                    "reason": status.reason,
                    "port": status.board.port,
                    "runtime": status.board.runtime,
                }
                for status in self.boards
            ],
        }


def take_inventory(tracker: TrackerAddress, say: Say = lambda _: None) -> Inventory:
    """Ask the tracker, and look at the boards known here.

    Parameters
    ----------
    say
        Is told of what is damaged, and left out.

    Raises
    ------
    TrackerUnreachableError
        No tracker answers, and no board is known either.
    """
    boards = tuple(
        BoardStatus(board, None if board.lan else read_link_state(board.name), is_gone(board))
        for board in known_boards(say)
    )
    try:
        return Inventory(tracker, None, _counts(summarize(tracker)), boards)
    except DeviceError as error:
        if not boards:
            raise
        return Inventory(tracker, str(error), (), boards)


def known_boards(say: Say = lambda _: None) -> list[Board]:
    """All boards that were set up from here, and emulated ones whose set-up was broken off, by name."""
    registered = registered_boards(say)
    names = {board.name for board in registered}
    others = [_as_board(running) for running in find_boards(emulated_folder()) if running.name not in names]
    return sorted(registered + others, key=lambda board: board.name)


def boards_called(text: str, say: Say = lambda _: None) -> list[Board]:
    """The board of this name, or else all boards of the target of this name.

    Raises
    ------
    UsageError
        There is neither, or what is known of the board is damaged.
    """
    boards = known_boards(say if text not in board_names() else lambda _: None)
    found = [board for board in boards if board.name == text]
    if not found and text in board_names():
        load_board(text)  # says how it is damaged
    found = found or [board for board in boards if board.target == text]
    if not found:
        known = ", ".join(f"{board.name} ({board.target})" for board in boards) or "none"
        raise UsageError(f"no board or target {text!r} was set up from here (boards: {known}); {_advice(text)}")
    return found


def target_called(text: str) -> str:
    """The target of the board of this name; else the text, which names a target or its file."""
    return load_board(text).target if text in board_names() else text


def is_gone(board: Board) -> bool:
    """Whether it was an emulated board that this host started, and does not run any more."""
    running = {running.identity for running in find_boards(emulated_folder())}
    return is_emulated_here(board) and board.identity not in running


def _as_board(emulated: EmulatedBoard) -> Board:
    return Board(
        name=emulated.name,
        target=emulated.target,
        key=emulated.key,
        user=emulated.user,
        host=emulated.address,
        ssh_port=emulated.ssh_port,
        identity=emulated.identity,
        emulated=True,
    )


def _advice(text: str) -> str:
    if text.endswith(EMULATED_SUFFIX):
        return f"start one: {COMMAND} emulate {text.removesuffix(EMULATED_SUFFIX)}"
    name = text if text in known_targets() else f"TARGET --name {text}"
    return f"set it up: {COMMAND} setup {name} --ssh USER@HOST"


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
