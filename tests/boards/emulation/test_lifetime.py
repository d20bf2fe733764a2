"""However a board ends, nothing of it is left."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from ofa_tvm.boards.emulation import launch as launching
from ofa_tvm.boards.emulation import network
from ofa_tvm.boards.emulation.board import (
    EmulatedBoard,
    clean_stale,
    find_boards,
    start_board,
    stop_board,
)
from ofa_tvm.boards.emulation.processor import processor_of
from ofa_tvm.boards.emulation.state import processes_of
from ofa_tvm.errors import EmulationError
from ofa_tvm.targets import load_target

Eventually = Callable[[Callable[[], bool]], None]

OWNER = """
import sys, time
from pathlib import Path
from ofa_tvm.boards.emulation import network
from ofa_tvm.boards.emulation.board import start_board
from ofa_tvm.targets import load_target
network.NUMBERS = range(200, 256)
board = start_board(load_target("rasp4"), "owned", Path(sys.argv[1]), print, tethered=sys.argv[2] == "tethered")
print("ready", flush=True)
time.sleep(1000)
"""
RASP4 = load_target("rasp4")
NUMBERS = range(200, 256)
"""Of the boards here, which other tests' boards have no cables of: they get the lowest that are free."""


@pytest.fixture(autouse=True)
def own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "NUMBERS", NUMBERS)


def interfaces() -> set[str]:
    return {name for number in NUMBERS if Path("/sys/class/net", name := network._interface(number)).exists()}


def start(folder: Path, name: str = "board") -> EmulatedBoard:
    return start_board(RASP4, name, folder, print, tethered=True)


def own_processes(board: EmulatedBoard) -> list[int]:
    return [process.pid for process in processes_of(board.folder)]


def freeze(processes: list[int]) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):  # sshd's child for the greeting has ended
            os.kill(pid, signal.SIGSTOP)


def start_owner(folder: Path, how: str) -> subprocess.Popen[str]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, folder, how], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline().strip() == "ready"
    return owner


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_stop_leaves_nothing_and_may_be_repeated(boards: Path):
    before = interfaces()
    board = start(boards)
    processes = own_processes(board)
    assert len(processes) > 1
    assert len(interfaces() - before) == 1
    stop_board(board)
    assert all(map(is_gone, processes))
    assert interfaces() == before
    assert list(boards.iterdir()) == []
    stop_board(board)
    assert find_boards(boards) == []


def test_a_stopped_board_can_be_started_again_with_other_keys(boards: Path):
    first = start(boards)
    stop_board(first)
    assert start(boards).host_key != first.host_key


def test_a_name_is_taken_once(boards: Path):
    board = start(boards)
    with pytest.raises(EmulationError, match="board board runs already"):
        start(boards)
    assert find_boards(boards) == [board]


@pytest.mark.parametrize("name", ["", "../up", "-x", "a b", "x" * 64])
def test_names_that_are_none_are_refused(boards: Path, name: str):
    with pytest.raises(EmulationError, match="no name for a board"):
        start(boards, name)


def test_a_tethered_board_dies_with_its_owner(boards: Path, eventually: Eventually):
    before = interfaces()
    with start_owner(boards, "tethered") as owner:
        (board,) = find_boards(boards)
        processes = own_processes(board)
        owner.kill()
    eventually(lambda: all(map(is_gone, processes)))
    assert find_boards(boards) == []
    clean_stale(boards)
    assert list(boards.iterdir()) == []
    eventually(lambda: interfaces() == before)


def test_a_board_without_tether_outlives_its_starter(boards: Path):
    with start_owner(boards, "free") as owner:
        owner.kill()
    (board,) = find_boards(boards)
    assert EmulatedBoard.load(board.folder) == board
    launching.await_sshd(board)
    clean_stale(boards)
    assert find_boards(boards) == [board]
    stop_board(board)
    assert find_boards(boards) == []


@pytest.mark.parametrize("frozen", [False, True])
def test_a_killed_board_is_gone_and_its_remains_are_removed(boards: Path, eventually: Eventually, frozen: bool):
    before = interfaces()
    board = start(boards)
    processes = own_processes(board)
    if frozen:
        freeze(processes)
    os.kill(board.pid, signal.SIGKILL)
    eventually(lambda: all(map(is_gone, processes)))
    assert find_boards(boards) == []
    again = start(boards)
    assert find_boards(boards) == [again]
    stop_board(again)
    assert interfaces() == before


def test_removing_remains_leaves_another_boards_cable_alone(boards: Path, eventually: Eventually):
    killed, heir = start(boards / "one"), start(boards / "two")
    os.kill(killed.pid, signal.SIGKILL)
    eventually(lambda: is_gone(killed.pid))
    dataclasses.replace(killed, address=heir.address).save()  # as if the heir had been started later
    clean_stale(boards / "one")
    assert list((boards / "one").iterdir()) == []
    launching.await_sshd(heir)


def test_boards_started_at_once_get_cables_of_their_own(boards: Path):
    def start_free(folder: str) -> EmulatedBoard:
        return start_board(RASP4, "board", boards / folder, print, tethered=False)

    names = ["one", "two", "three"]
    with ThreadPoolExecutor(len(names)) as pool:
        started = list(pool.map(start_free, names))
    try:
        assert len({board.address for board in started}) == len(names)
        for board in started:
            launching.await_sshd(board)
    finally:
        for board in started:
            stop_board(board)


def test_a_frozen_board_can_be_stopped(boards: Path):
    board = start(boards)
    processes = own_processes(board)
    freeze(processes)
    stop_board(board)
    assert all(map(is_gone, processes))
    assert list(boards.iterdir()) == []


@pytest.mark.parametrize("content", [None, "", "{}", '{"name": "board"'])
def test_a_board_whose_state_is_damaged_is_removed(boards: Path, content: str | None, eventually: Eventually):
    before = interfaces()
    board = start(boards)
    processes = own_processes(board)
    state = board.folder / "board.json"
    state.unlink() if content is None else state.write_text(content)
    assert find_boards(boards) == []
    with pytest.raises(EmulationError, match=r"no emulated board|damaged"):
        EmulatedBoard.load(board.folder)
    clean_stale(boards)
    assert all(map(is_gone, processes))
    assert not psutil.pid_exists(board.pid), "a child of this process that nobody waited for"
    assert list(boards.iterdir()) == []
    eventually(lambda: interfaces() == before)


def test_a_board_that_cannot_start_says_why_and_leaves_nothing(boards: Path, base: Path, monkeypatch):
    before = interfaces()
    broken = processor_of(RASP4, print)
    monkeypatch.setattr(
        "ofa_tvm.boards.emulation.board.processor_of",
        lambda target, say: type(broken)(broken.core, "no-such-core", broken.cpuinfo),
    )
    with pytest.raises(EmulationError, match=r"ended at its start: .*no-such-core"):
        start(boards)
    assert list(boards.iterdir()) == []
    assert interfaces() == before


def test_an_interrupted_start_leaves_nothing(boards: Path, monkeypatch):
    def interrupt(board: EmulatedBoard) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ofa_tvm.boards.emulation.board.await_sshd", interrupt)
    before = interfaces()
    with pytest.raises(KeyboardInterrupt):
        start(boards)
    assert list(boards.iterdir()) == []
    assert interfaces() == before


def test_a_start_that_was_killed_at_once_is_not_in_the_way(boards: Path):
    (boards / "board").mkdir(parents=True)
    assert find_boards(boards) == []
    board = start(boards)
    assert find_boards(boards) == [board]


def test_other_files_are_left_alone(boards: Path):
    boards.mkdir()
    (boards / "notes").write_text("mine")
    (boards / "folder").mkdir()
    clean_stale(boards)
    stop_board(start(boards))
    assert sorted(path.name for path in boards.iterdir()) == ["folder", "notes"]
    with pytest.raises(EmulationError, match="runs already"):
        start(boards, "notes")


def test_without_an_overlay_the_board_has_a_copy(boards: Path, base: Path):
    folder = boards / "with,a,comma"  # which mount takes for another option
    board = start(folder)
    assert (board.folder / "root/etc/ssh/ssh_host_ed25519_key").exists()
    assert not (base / "etc/ssh/ssh_host_ed25519_key").exists()
    assert len(find_boards(folder)) == 1
    stop_board(board)
    assert list(folder.iterdir()) == []
    shutil.rmtree(folder)


def test_networks_in_use_are_left_alone(boards: Path):
    subprocess.run(["ip", "route", "add", "blackhole", "10.213.200.0/23"], check=True)
    try:
        board = start(boards)
        number = int(board.address.split(".")[2])
        assert number >= 202
    finally:
        subprocess.run(["ip", "route", "delete", "blackhole", "10.213.200.0/23"], check=True)
