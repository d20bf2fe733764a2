"""What the devices command decides before it reaches a board, and for several boards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ofa_tvm import devices
from ofa_tvm.boards import emulated_boards, installing, lifecycle
from ofa_tvm.boards.registry import Board, load_board, save_board
from ofa_tvm.errors import BoardSetUpError, BoardUnreachableError, UsageError

from .conftest import LIMIT_S, ROOT, SshBoard, Tracker

pytestmark = pytest.mark.usefixtures("state")
LIST_AND_LOOK = """
import runpy, sys
try:
    runpy.run_module("ofa_tvm.devices", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
assert "tvm" in sys.modules and not sys.modules.get("torch")
with open("/proc/self/maps") as maps:
    libraries = maps.read()
assert "libtvm_runtime" in libraries and "libtvm_compiler" not in libraries
"""
KNOWN = Board(
    name="rasp4",
    target="rasp4",
    key="rasp4",
    user="pi",
    host="127.0.0.1",
    ssh_port=1,
    runtime="native",
    folder="/home/pi/native-1",
    systemd=True,
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What a set-up would be told to do."""
    given: dict[str, object] = {}

    def install(board: Board, _: object, **options: object) -> tuple[Board, bool]:
        given.update(board=board, **options)
        return board, False

    monkeypatch.setattr(installing, "install", install)
    return given


@pytest.mark.parametrize("name", ["my pi", "../x"])
def test_name_that_is_none_is_refused_before_anything_is_reached(state: Path, name: str):
    with pytest.raises(UsageError, match="is no name for a board"):
        devices.setup("rasp4", ssh="pi@127.0.0.1:1", name=name)
    assert not state.exists()


@pytest.mark.parametrize("target", ["local", "null"])
def test_target_without_a_board_is_refused_before_anything_is_reached(state: Path, target: str):
    with pytest.raises(UsageError, match=rf"needs no board: its device\.kind is {target}"):
        devices.setup(target, ssh="pi@127.0.0.1:1")
    assert not state.exists()


def test_options_that_are_left_out_stay_what_they_were(asked: dict[str, object], tmp_path: Path):
    save_board(KNOWN.model_copy(update={"identity": tmp_path / "key"}))
    devices.setup("rasp4", start_it=False)
    board = asked["board"]
    assert (board.address, board.systemd, board.lan) == (KNOWN.address, True, False)
    assert (board.identity, asked["runtime"]) == (tmp_path / "key", "native")
    devices.setup("rasp4", systemd=False, lan=True, runtime="auto", start_it=False)
    board = asked["board"]
    assert (board.systemd, board.lan, asked["runtime"]) == (False, True, "auto")


def test_new_board_has_the_usual_options(asked: dict[str, object]):
    devices.setup("rasp4", ssh="pi@127.0.0.1:1", start_it=False)
    board = asked["board"]
    assert (board.systemd, board.lan, board.identity, asked["runtime"]) == (False, False, None, "auto")


def test_known_name_is_for_the_board_that_has_it(asked: dict[str, object]):
    save_board(KNOWN)
    with pytest.raises(UsageError, match=r"is the board at pi@127\.0\.0\.1:1, not .*--name.*devices remove rasp4"):
        devices.setup("rasp4", ssh="pi@10.0.0.9", start_it=False)
    assert asked == {}


def test_change_is_said(ssh_board: SshBoard, board: Board, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installing, "set_up", lambda connection, board, *_, **__: (board, False))
    save_board(board.model_copy(update={"runtime": "native", "lan": True}))
    steps: list[str] = []
    ssh_board.connect().close()
    installing.install(board, steps.append)
    assert steps == ["bench: runtime was native, is python now", "bench: lan was on, is off now"]


def test_one_board_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    stopped: list[str] = []

    def stop(board: Board, _: object) -> None:
        if board.name != "c":
            raise BoardUnreachableError(f"{board.name} is off")
        stopped.append(board.name)

    monkeypatch.setattr(lifecycle, "stop", stop)
    for name in "abc":
        save_board(KNOWN.model_copy(update={"name": name}))
    with pytest.raises(BoardUnreachableError, match="a is off"):
        devices.stop("rasp4")
    assert stopped == ["c"]
    assert "b is off" in capfd.readouterr().err


def test_emulated_mark_keeps_a_board_from_passing_for_a_real_one(
    ssh_board: SshBoard, board: Board, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ofa_tvm.boards.probe._PROBE", "echo machine=aarch64; echo home=/x; echo emulated=yes")
    ssh_board.connect().close()
    with pytest.raises(BoardSetUpError, match="set it up as rasp4-emulated"):
        installing.install(board, lambda _: None)
    with pytest.raises(UsageError):
        load_board(board.name)


def test_list_says_what_to_type(capfd: pytest.CaptureFixture[str], tracker: Tracker):
    devices.list_devices(tracker=str(tracker.address))
    assert "devices setup TARGET --ssh USER@HOST" in capfd.readouterr().err
    save_board(KNOWN)
    devices.list_devices(tracker=str(tracker.address), as_json=True)
    printed = capfd.readouterr()
    assert json.loads(printed.out)["boards"][0]["state"] == "no link"
    assert "devices setup" not in printed.err


def test_list_does_without_torch_and_the_compiler(tracker: Tracker):
    """They make it take seconds."""
    command = [sys.executable, "-c", LIST_AND_LOOK, "list", "--tracker", str(tracker.address)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    assert run.returncode == 0, run.stderr


def test_emulate_says_what_to_type_with_its_tracker(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setattr(emulated_boards, "start_emulated_boards", lambda *_, **__: [KNOWN])
    devices.emulate("rasp4", tracker="127.0.0.1:9999")
    assert "--target rasp4-emulated --tracker 127.0.0.1:9999" in capfd.readouterr().err
