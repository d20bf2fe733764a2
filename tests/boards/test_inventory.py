from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ofa_tvm.boards.inventory import boards_called, is_gone, take_inventory, target_called
from ofa_tvm.boards.link_control import link_status
from ofa_tvm.boards.link_state import LinkState, write_link_state
from ofa_tvm.boards.registry import Board, emulated_folder, is_emulated_here, save_board
from ofa_tvm.errors import TrackerUnreachableError, UsageError
from ofa_tvm.homes import state_folder
from ofa_tvm.measurement.local_processes import local_tracker
from ofa_tvm.measurement.tracker import TrackerAddress

NOBODY = TrackerAddress("127.0.0.1", 1)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFA_TVM_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture(scope="module")
def tracker() -> Iterator[TrackerAddress]:
    with local_tracker() as address:
        yield address


def board(name: str, target: str = "rasp4", **more: object) -> Board:
    reached = {"user": "pi", "host": "10.0.0.9", "folder": "/home/pi/native-1"}
    known = Board.model_validate({"name": name, "target": target, "key": target, **reached, **more})
    save_board(known)
    return known


def test_boards_are_called_by_their_name_or_their_target() -> None:
    left, right, other = board("left"), board("right"), board("other", "rasp3")
    assert boards_called("left") == [left]
    assert boards_called("rasp4") == [left, right]
    assert boards_called("rasp3") == [other]


def test_a_name_comes_before_a_target_of_the_same_name() -> None:
    board("one"), (same := board("rasp4"))
    assert boards_called("rasp4") == [same]


def test_an_unknown_board_names_those_that_are_known() -> None:
    board("left")
    with pytest.raises(
        UsageError, match=r"no board or target 'rasp5' .*left \(rasp4\).*devices setup TARGET --name rasp5 --ssh"
    ) as caught:
        boards_called("rasp5")
    assert "\n" not in str(caught.value)


def test_what_to_type_for_what_is_not_there() -> None:
    with pytest.raises(UsageError, match="devices setup rasp4 --ssh USER@HOST"):
        boards_called("rasp4")
    with pytest.raises(UsageError, match=r"devices emulate rasp4$"):
        boards_called("rasp4-emulated")


def test_a_damaged_file_is_said_and_skipped() -> None:
    left = board("left")
    (state_folder() / "boards" / "right.json").write_text("{")
    said: list[str] = []
    assert boards_called("rasp4", said.append) == [left]
    assert [status.board for status in take_inventory(NOBODY, said.append).boards] == [left]
    assert ["right.json is damaged" in line for line in said] == [True, True]
    with pytest.raises(UsageError, match=r"right\.json is damaged"):
        boards_called("right")


def test_a_board_stands_for_its_target() -> None:
    board("left", "rasp3")
    assert [target_called(name) for name in ("left", "rasp4", "my/target.yaml")] == ["rasp3", "rasp4", "my/target.yaml"]


def test_a_link_that_gave_up_says_why() -> None:
    known = board("left")
    state = LinkState(pid=1, tracker="127.0.0.1:1", port=2, tracker_port=3, state="ended", reason="another machine")
    write_link_state("left", state)
    (status,) = take_inventory(NOBODY).boards
    assert (status.state, status.reason) == ("link ended", "another machine")
    assert take_inventory(NOBODY).to_dict()["boards"][0]["reason"] == "another machine"
    assert link_status(known) is None
    write_link_state("left", state.model_copy(update={"state": "up"}))  # of a link that was killed
    assert [status.state for status in take_inventory(NOBODY).boards] == ["no link"]


def test_without_a_tracker_the_boards_are_shown_with_the_trouble() -> None:
    board("left")
    inventory = take_inventory(NOBODY)
    assert "no RPC tracker answers at 127.0.0.1:1" in (inventory.trouble or "")
    assert [status.state for status in inventory.boards] == ["no link"]
    assert inventory.to_dict()["boards"][0]["address"] == "pi@10.0.0.9"


def test_without_tracker_and_boards_there_is_nothing_to_show() -> None:
    with pytest.raises(TrackerUnreachableError):
        take_inventory(NOBODY)


def test_an_empty_tracker(tracker: TrackerAddress) -> None:
    board("left", lan=True)
    inventory = take_inventory(tracker)
    assert (inventory.trouble, inventory.keys) == (None, ())
    assert inventory.boards[0].state == "on the network"


def test_an_emulated_board_whose_process_is_gone() -> None:
    ours = board("rasp4-emulated-1", identity=emulated_folder() / "rasp4-emulated-1" / "id_ed25519", emulated=True)
    theirs = board("theirs", identity=Path("/home/pi/key"), emulated=True)
    assert is_emulated_here(ours) and is_gone(ours)
    assert not is_emulated_here(theirs) and not is_gone(theirs)
    assert [status.state for status in take_inventory(NOBODY).boards] == ["gone", "no link"]
