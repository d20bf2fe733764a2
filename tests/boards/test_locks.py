"""One at a time, whoever removes the file meanwhile, and nobody waits in silence."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ofa_tvm.boards import locks
from ofa_tvm.boards.locks import file_locked, folder_locked
from ofa_tvm.errors import DeviceError

from .conftest import wait_until


def test_who_waits_is_told_what_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locks, "SILENT_S", 0.1)
    told, had = threading.Event(), threading.Event()
    steps: list[str] = []

    def say(step: str) -> None:
        steps.append(step)
        told.set()

    def wait() -> None:
        with file_locked(tmp_path / "x.lock", "a board", say):
            had.set()

    with file_locked(tmp_path / "x.lock", "a board"):
        (waiting := threading.Thread(target=wait)).start()
        assert told.wait(30)
        assert not had.is_set()
    waiting.join(30)
    assert had.is_set()
    assert steps == ["waiting for another command that is busy with a board"]


def test_nobody_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locks, "LOCK_LIMIT_S", 0.1)
    for locked, path in ((file_locked, tmp_path / "x.lock"), (folder_locked, tmp_path)):
        with (
            locked(path, "a board"),
            pytest.raises(DeviceError, match="still busy with a board"),
            locked(path, "a board"),
        ):
            pass


def test_a_file_that_its_holder_removes_is_made_anew(tmp_path: Path):
    path = tmp_path / "x.lock"
    inside: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            with file_locked(path, "x"):
                inside.append(number)
                assert len(inside) == 1
                inside.remove(number)
                path.unlink()  # from here on another has it, with a file of its own

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_a_lock_ends_with_its_holder(tmp_path: Path):
    script = (
        "import sys, time; from pathlib import Path; from ofa_tvm.boards.locks import file_locked\n"
        "with file_locked(Path(sys.argv[1]), 'x'): Path(sys.argv[2]).touch(); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path / "x.lock", tmp_path / "held"]) as holder:
        wait_until((tmp_path / "held").exists)
        holder.kill()
    with file_locked(tmp_path / "x.lock", "x"):
        pass
