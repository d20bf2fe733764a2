"""What a board gets, and how: against a board that is this very machine, and boards that are only described."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from ofa_tvm.boards import payload, provisioning
from ofa_tvm.boards.probe import Probe, choose_runtime, probe, require_space
from ofa_tvm.boards.provisioning import set_up
from ofa_tvm.boards.registry import Board
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.errors import BoardSetUpError, BoardUnreachableError

from ..processes import send
from .conftest import LIMIT_S, SshBoard

RASP4 = Probe("aarch64", "64", (2, 36), True, (3, 11), 9000, "/home/pi/.local/share/ofa_tvm", False, frozenset())


@pytest.mark.parametrize(
    ("change", "wanted", "chosen"),
    [
        ({}, "auto", "python"),
        ({}, "native", "native"),
        ({"python": None}, "auto", "native"),
        ({"python": (3, 9)}, "auto", "native"),
        ({"glibc": (2, 27)}, "auto", "native"),
        ({"machine": "x86_64"}, "auto", "python"),
    ],
)
def test_python_is_chosen_where_it_is_new_enough(change: dict, wanted: str, chosen: str):
    assert choose_runtime(dataclasses.replace(RASP4, **change), wanted, "rasp4") == chosen


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": "armv7l"}, "armv7l.*64-bit"),
        ({"bits": "32"}, "aarch64 with a 32-bit system.*install a 64-bit system"),
        ({"machine": "riscv64"}, "riscv64"),
        ({"glibc": None}, "musl"),
        ({"glibc": (2, 24)}, "glibc 2.24.*2.27 or newer"),
        ({"libstdcxx": False}, "apt-get install libstdc"),
    ],
)
def test_board_that_can_run_nothing_hears_why(change: dict, words: str):
    with pytest.raises(BoardSetUpError, match=words):
        choose_runtime(dataclasses.replace(RASP4, **change), "auto", "rasp4")


@pytest.mark.parametrize("change", [{"python": None}, {"python": (3, 8)}, {"glibc": (2, 27)}])
def test_python_that_is_asked_for_and_can_t_be_had_is_an_error(change: dict):
    with pytest.raises(BoardSetUpError, match="--runtime native"):
        choose_runtime(dataclasses.replace(RASP4, **change), "python", "rasp4")


def test_little_space_is_said_before_anything_is_copied():
    with pytest.raises(BoardSetUpError, match=r"100 MiB free.*python runtime needs 250 MiB"):
        require_space(dataclasses.replace(RASP4, free_mib=100), "python", "rasp4")


def test_name_of_a_runtime_changes_with_what_is_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    before = payload.payload_name(RASP4, "python")
    assert payload.payload_name(dataclasses.replace(RASP4, free_mib=1), "python") == before
    assert payload.payload_name(dataclasses.replace(RASP4, python=(3, 12)), "python") != before
    shutil.copytree(payload.shipped_folder("rpc"), tmp_path / "rpc", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "rpc" / "session.py").open("a") as script:
        script.write("\n")
    monkeypatch.setattr(payload, "shipped_folder", lambda name: tmp_path / name)
    assert payload.payload_name(RASP4, "python") != before


def test_probe_of_this_machine(connection: SshConnection, ssh_board: SshBoard):
    found = probe(connection)
    assert found.machine == subprocess.run(["uname", "-m"], capture_output=True, text=True).stdout.strip()
    assert found.bits == "64"
    assert found.glibc
    assert found.libstdcxx
    assert found.free_mib > 0
    assert found.folder == f"{ssh_board.home}/.local/share/ofa_tvm"
    assert found.complete == frozenset()


def test_probe_of_a_system_without_getconf(connection: SshConnection, ssh_board: SshBoard):
    expected = probe(connection)
    (ssh_board.home / "bin").mkdir()
    (ssh_board.home / "bin" / "getconf").write_text("#!/bin/sh\nexit 1\n")
    (ssh_board.home / "bin" / "getconf").chmod(0o755)
    found = probe(connection)
    assert (found.bits, found.glibc) == (expected.bits, expected.glibc)


@pytest.mark.parametrize(("name", "reply"), [("sh", "no shell here"), ("uname", "")])
def test_board_that_answers_nonsense(connection: SshConnection, ssh_board: SshBoard, name: str, reply: str):
    (ssh_board.home / "bin").mkdir()
    (ssh_board.home / "bin" / name).write_text(f"#!/bin/bash\necho {reply}\n")
    (ssh_board.home / "bin" / name).chmod(0o755)
    with pytest.raises(BoardSetUpError, match=r"does not run shell commands as Linux does.*uname -a"):
        probe(connection)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["python", "native"])
def test_set_up_installs_once(connection: SshConnection, board: Board, ssh_board: SshBoard, runtime: str):
    steps: list[str] = []
    bytes_seen: list[tuple[int, int]] = []
    done, changed = set_up(
        connection, board, steps.append, runtime=runtime, progress=lambda *seen: bytes_seen.append(seen)
    )
    assert changed
    assert done.runtime == runtime
    assert [done for done, _ in bytes_seen] == sorted(done for done, _ in bytes_seen)
    assert bytes_seen[-1][0] == bytes_seen[-1][1] > 1_000_000
    assert any("copying" in step for step in steps)
    assert connection.run(f"ls -A {done.folder}", LIMIT_S).stdout.split().count("complete") == 1
    assert not list(ssh_board.home.rglob("*.part"))

    steps.clear()
    assert set_up(connection, board, steps.append, runtime=runtime) == (done, False)
    assert steps == []


@pytest.mark.slow
def test_broken_set_up_is_done_again(
    connection: SshConnection, board: Board, ssh_board: SshBoard, monkeypatch: pytest.MonkeyPatch
):
    def cut(*_: object) -> None:
        send(ssh_board.sessions())
        connection.transport.join(LIMIT_S)

    with monkeypatch.context() as patch:
        patch.setattr(provisioning, "_install", lambda *_: cut() or connection.run("true", LIMIT_S))
        with pytest.raises(BoardUnreachableError):
            set_up(connection, board, lambda _: None, runtime="native")
    assert list(ssh_board.home.rglob("libtvm_runtime.so"))
    assert not list(ssh_board.home.rglob("complete"))
    with ssh_board.connect() as again:
        assert set_up(again, board, lambda _: None, runtime="native")[1]
    assert len(list(ssh_board.home.rglob("complete"))) == 1


@pytest.mark.slow
def test_interrupted_set_up_leaves_nothing_there(
    connection: SshConnection, board: Board, ssh_board: SshBoard, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: object) -> None:
        assert list(ssh_board.home.rglob("libtvm_runtime.so"))
        raise KeyboardInterrupt

    monkeypatch.setattr(provisioning, "_install", interrupt)
    with pytest.raises(KeyboardInterrupt):
        set_up(connection, board, lambda _: None, runtime="native")
    assert not list(ssh_board.home.rglob("native-*"))


@pytest.mark.slow
def test_disk_that_fills_up_leaves_nothing_and_says_so(
    connection: SshConnection, board: Board, ssh_board: SshBoard, monkeypatch: pytest.MonkeyPatch
):
    ssh_board.shrink_disk("4m")
    with pytest.raises(BoardSetUpError, match=r"bench has . MiB free"):
        set_up(connection, board, lambda _: None, runtime="native")
    monkeypatch.setattr(provisioning, "require_space", lambda *_: None)
    with pytest.raises(BoardSetUpError, match=r"cannot write .*MiB are free"):
        set_up(connection, board, lambda _: None, runtime="native")
    assert connection.run("find ~ -type f", LIMIT_S).stdout == ""


@pytest.mark.slow
def test_board_whose_python_has_no_packages_gets_the_native_server(
    connection: SshConnection, board: Board, monkeypatch: pytest.MonkeyPatch
):
    found = dataclasses.replace(probe(connection), python=(3, 99))
    monkeypatch.setattr(provisioning, "probe", lambda _: found)
    steps: list[str] = []
    done, _ = set_up(connection, board, steps.append)
    assert done.runtime == "native"
    assert any("Python 3.99" in step and "native server instead" in step for step in steps)
    with pytest.raises(BoardSetUpError, match=r"pip on this host cannot get .* for Python 3\.99"):
        set_up(connection, board, steps.append, runtime="python")
