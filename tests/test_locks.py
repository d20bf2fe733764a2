"""One at a time, whoever removes the file meanwhile, and nobody waits in silence, or for ever unless he wants to."""

from __future__ import annotations

import errno
import fcntl
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from ofa_tvm import locks
from ofa_tvm.errors import DeviceError, OutputError
from ofa_tvm.locks import file_locked, folder_locked, lock_until, try_lock

Locked = Callable[..., AbstractContextManager[None]]

WORKS = "works on a board"
NOBODY = 65534
WAITING = f"waiting for another command that {WORKS}"


@pytest.fixture(params=[file_locked, folder_locked])
def locked(request: pytest.FixtureRequest) -> Locked:
    chosen: Locked = request.param
    return chosen


@contextmanager
def another_process(locked: Locked, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Takes the lock, prints a line as soon as it has it or is told that it waits, and keeps it."""
    script = (
        f"import sys, time; from pathlib import Path; from ofa_tvm import locks; locks.SILENT_S = 0.1\n"
        f"say = lambda line: print(line, flush=True)\n"
        f"with locks.{locked.__name__}(Path(sys.argv[1]), {WORKS!r}, say): say('has it'); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.mark.parametrize("limit_s", [60.0, math.inf])
def test_who_waits_is_told_what_for(
    locked: Locked, limit_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SILENT_S", 0.1)
    told, had = threading.Event(), threading.Event()
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        told.set()

    def wait() -> None:
        with locked(tmp_path / "x", WORKS, say, limit_s=limit_s):
            had.set()

    with locked(tmp_path / "x", WORKS, lines.append):
        (waiting := threading.Thread(target=wait)).start()
        assert told.wait(60)
        assert not had.is_set()
    waiting.join(60)
    assert had.is_set()
    assert lines == [WAITING]


def test_nobody_waits_longer_than_the_limit(locked: Locked, tmp_path: Path) -> None:
    with (
        locked(tmp_path / "x", WORKS),
        pytest.raises(DeviceError, match=f"another command that {WORKS} has not ended yet"),
        locked(tmp_path / "x", WORKS, limit_s=0.1),
    ):
        pass


def test_a_lock_is_tried_at_least_once(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as one, (tmp_path / "x").open("w") as other:
        assert lock_until(one.fileno(), -math.inf)
        assert not lock_until(other.fileno(), -math.inf)
        assert not lock_until(other.fileno(), time.monotonic() + 0.1)
        assert not try_lock(other.fileno())
        one.close()
        assert try_lock(other.fileno())


def test_a_file_that_its_holder_removes_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.lock"
    inside: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            with file_locked(path, WORKS):
                inside.append(number)
                assert len(inside) == 1
                inside.remove(number)
                path.unlink()  # from here on another has it, with a file of its own

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_so_is_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SILENT_S", 0.1)
    path, told, had = tmp_path / "folder" / "x.lock", threading.Event(), threading.Event()

    def wait() -> None:
        with file_locked(path, WORKS, lambda _: told.set()):
            had.set()

    with file_locked(path, WORKS):
        (waiting := threading.Thread(target=wait)).start()
        assert told.wait(60)
        shutil.rmtree(path.parent)
    waiting.join(60)
    assert had.is_set()


def test_a_lock_ends_with_its_holder(locked: Locked, tmp_path: Path) -> None:
    with another_process(locked, tmp_path / "x") as holder:
        assert line_of(holder) == "has it"
        holder.kill()
        with locked(tmp_path / "x", WORKS, limit_s=60):
            pass


def test_an_interrupt_ends_the_wait(locked: Locked, tmp_path: Path) -> None:
    with locked(tmp_path / "x", WORKS), another_process(locked, tmp_path / "x") as waiting:
        assert line_of(waiting) == WAITING
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(60) == -signal.SIGINT


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user of this machine may look into, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_another_user_takes_a_lock_that_he_may_not_write(public: Path) -> None:
    path = public / "records.lock"
    with file_locked(path, WORKS):
        pass
    path.chmod(0o444)  # so that a test without root meets the same

    def work() -> None:
        if not os.getuid():
            os.setresuid(NOBODY, NOBODY, NOBODY)
        with file_locked(path, WORKS), path.open("rb") as same:
            os._exit(3 if try_lock(same.fileno()) else 0)

    other = multiprocessing.get_context("fork").Process(target=work)
    other.start()
    other.join()
    assert other.exitcode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs two users")
def test_another_user_takes_it_also_in_a_folder_like_tmp(public: Path) -> None:
    """Where Linux refuses O_CREAT for another's file, and where both may remove it."""
    public.chmod(0o1777)
    test_another_user_takes_a_lock_that_he_may_not_write(public)


def test_what_cannot_be_made_is_said_in_a_line(locked: Locked, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"), locked(tmp_path / "file" / "x", WORKS):
        pass


def test_so_is_a_file_system_without_locks(locked: Locked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    message = f"{os.strerror(errno.ENOLCK)}; this file system has no locks: name another place"
    with pytest.raises(OutputError, match=message), locked(tmp_path / "x", WORKS):
        pass
