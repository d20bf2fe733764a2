from __future__ import annotations

from pathlib import Path

import pytest

from ofa_tvm.boards.link_control import link_status
from ofa_tvm.boards.link_state import link_file
from ofa_tvm.boards.registry import (
    Board,
    board_lock,
    board_names,
    check_name,
    emulated_folder,
    is_emulated_here,
    load_board,
    name_on_board,
    remove_board,
    save_board,
    setup_command,
    state_folder,
)
from ofa_tvm.errors import UsageError

pytestmark = pytest.mark.usefixtures("state")
BOARD = Board(name="rasp4", target="rasp4", key="rasp4", user="pi", host="192.168.1.20")


def test_boards_are_remembered_until_they_are_forgotten():
    save_board(BOARD)
    save_board(BOARD.model_copy(update={"name": "attic", "port": 20001}))
    assert board_names() == ["attic", "rasp4"]
    assert load_board("rasp4") == BOARD
    remove_board("rasp4")
    remove_board("rasp4")
    assert board_names() == ["attic"]


def test_unknown_board_names_those_that_are_known():
    save_board(BOARD)
    with pytest.raises(UsageError, match=r"'rasp5'.*set up: rasp4.*devices setup TARGET .*--name rasp5"):
        load_board("rasp5")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "rasp4"}', '{"colour": "green"}', "\xff"])
def test_damaged_file_is_one_line_that_names_it(content: str):
    save_board(BOARD)
    path = state_folder() / "boards" / "rasp4.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"rasp4\.json is damaged.*remove it and set rasp4 up again") as caught:
        load_board("rasp4")
    assert "\n" not in str(caught.value)


def test_damaged_state_of_a_link_is_no_link():
    path = link_file("rasp4", "json")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert link_status(BOARD) is None


def test_state_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("OFA_TVM_STATE")
    assert state_folder() == Path.home() / ".local" / "state" / "ofa_tvm"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "ofa_tvm"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b"])
def test_names_that_are_no_file_names_are_refused(name: str):
    with pytest.raises(ValueError, match="name"):
        Board.model_validate({**BOARD.model_dump(), "name": name})


def test_state_behind_a_link_has_one_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv("OFA_TVM_STATE", str(tmp_path / "link"))
    assert state_folder() == tmp_path / "real"
    board = BOARD.model_copy(update={"identity": (tmp_path / "real/emulated/rasp4-emulated-1/id_ed25519")})
    assert is_emulated_here(board)


@pytest.mark.parametrize("name", ["my pi", "../x", "", "-x", ".x", "x" * 64, "x\n"])
def test_names_that_are_none_are_refused_in_a_line(name: str):
    with pytest.raises(UsageError, match=r"is no name for a board.*--name") as caught:
        check_name(name)
    assert "\n" not in str(caught.value)


def test_each_host_has_a_name_of_its_own_on_boards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    save_board(BOARD)
    ours = name_on_board(BOARD)
    assert ours == name_on_board(BOARD) != BOARD.name
    with monkeypatch.context() as patch:
        patch.setenv("OFA_TVM_STATE", str(tmp_path / "other"))
        assert name_on_board(BOARD) != ours
    remove_board(BOARD.name)
    assert [path for path in state_folder().rglob("*") if path.is_file()] == []


def test_command_that_sets_a_board_up_again_has_its_options():
    assert setup_command(BOARD) == "python -m ofa_tvm.devices setup rasp4 --ssh pi@192.168.1.20"
    more = {"name": "attic", "ssh_port": 2222, "identity": Path("/my keys/pi"), "systemd": True, "lan": True}
    assert setup_command(BOARD.model_copy(update=more)) == (
        "python -m ofa_tvm.devices setup rasp4 --ssh pi@192.168.1.20:2222 --name attic --identity '/my keys/pi'"
        " --systemd --lan"
    )
    emulated = {"target": "rasp4-emulated", "name": "e-1", "identity": emulated_folder() / "e-1" / "id_ed25519"}
    assert setup_command(BOARD.model_copy(update=emulated)).endswith(
        "stop e-1 && python -m ofa_tvm.devices emulate rasp4"
    )


def test_lock_of_a_board_that_is_not_known_is_gone():
    with board_lock("rasp4"):
        pass
    assert not list((state_folder() / "boards").iterdir())
    save_board(BOARD)
    with board_lock("rasp4"):
        remove_board("rasp4")
    assert not list((state_folder() / "boards").iterdir())


def test_identity_is_found_from_every_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    board = Board.model_validate({**BOARD.model_dump(), "identity": "key"})
    assert board.identity == tmp_path / "key"
