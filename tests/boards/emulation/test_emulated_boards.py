"""Emulated boards are found and stopped, whatever became of the command that started them, and numbered once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ofa_tvm import devices
from ofa_tvm.boards import emulated_boards
from ofa_tvm.boards.emulation.board import EmulatedBoard, clean_stale, find_boards, start_board
from ofa_tvm.boards.emulation.rootfs import base_root
from ofa_tvm.boards.inventory import boards_called, take_inventory
from ofa_tvm.boards.lifecycle import start
from ofa_tvm.boards.registry import emulated_folder
from ofa_tvm.errors import BoardSetUpError, EmulationError
from ofa_tvm.measurement.local_processes import local_tracker
from ofa_tvm.measurement.tracker import TrackerAddress
from ofa_tvm.targets import load_target

VARIANT = load_target("rasp4-emulated")


@pytest.fixture
def emulation(base: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A state of its own, and the board's system that is there already."""
    monkeypatch.setattr("ofa_tvm.boards.emulation.board.base_root", lambda say: base_root(say, base.parent))
    yield
    for board in find_boards(emulated_folder()):
        emulated_boards.stop_emulated_board(board.name)
    clean_stale(emulated_folder())


@pytest.mark.usefixtures("emulation")
def test_board_whose_command_was_killed_before_the_set_up_is_seen_and_stopped(state: Path):
    start_board(VARIANT, "rasp4-emulated-1", emulated_folder(), print, tethered=False)
    (status,) = take_inventory(TrackerAddress("127.0.0.1", 1)).boards
    assert (status.board.name, status.board.key, status.state) == ("rasp4-emulated-1", "rasp4-emulated", "not set up")
    (board,) = boards_called("rasp4-emulated")
    with local_tracker() as tracker, pytest.raises(BoardSetUpError, match="devices stop rasp4-emulated-1 && "):
        start(board, tracker, print)
    devices.stop("rasp4-emulated")
    assert find_boards(emulated_folder()) == []
    assert [path for path in state.rglob("*") if path.is_file() and path.read_bytes()] == []


@pytest.mark.usefixtures("emulation")
def test_commands_that_start_boards_at_once_number_them_once():
    def start_next(_: int) -> EmulatedBoard:
        return emulated_boards._start_next(VARIANT, print, tethered=False)

    with ThreadPoolExecutor(3) as pool:
        names = {board.name for board in pool.map(start_next, range(3))}
    assert names == {f"rasp4-emulated-{number}" for number in (1, 2, 3)}


def test_board_that_can_t_be_started_is_not_tried_under_other_names(state: Path, monkeypatch: pytest.MonkeyPatch):
    tried: list[str] = []

    def refuse(_target: object, name: str, *_: object, **__: object) -> EmulatedBoard:
        tried.append(name)
        raise EmulationError("no root")

    monkeypatch.setattr(emulated_boards, "start_board", refuse)
    with pytest.raises(EmulationError, match="no root"):
        emulated_boards._start_next(VARIANT, print, tethered=False)
    assert tried == ["rasp4-emulated-1"]
