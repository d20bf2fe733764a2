"""A folder that is replaced is there, or comes back, wherever the process that replaces it is killed."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import sys

import pytest

from ofa_tvm import replacing
from ofa_tvm.errors import OutputError
from ofa_tvm.files import directory_atomic

STEPS = {"os.rename", "shutil.rmtree", "os.mkdir", "os.rmdir", "os.remove"}
"""What a replacement changes on the disk; Python tells before it does."""
MOST_STEPS = 12


@pytest.fixture(params=["exchange", "two renames"])
def system(request, monkeypatch):
    """A system that can exchange two names at once, and one that can't."""
    if request.param == "two renames":
        monkeypatch.setattr(replacing, "_exchange", lambda _one, _other: False)
    return request.param


def write(path, content):
    with directory_atomic(path) as folder:
        for name in ("one", "two"):
            (folder / name).write_text(content)


def content(path):
    """What both files of a whole folder say."""
    (text,) = {(path / name).read_text() for name in ("one", "two")}
    assert sorted(file.name for file in path.iterdir()) == ["one", "two"]
    return text


def killed_before(step, path):
    """Whether a process that replaces the folder was killed before that step; False if it has fewer."""

    def work():
        left = step

        def count(event, _arguments):
            nonlocal left
            if event in STEPS:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        write(path, "new")
        os._exit(0)  # no clean-up of the parent's

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def test_killed_at_any_step_a_replacement_loses_nothing(tmp_path, system):
    """The old folder or the new one is there at once or as soon as anybody comes, and what is left goes away."""
    outcomes = []
    for step in range(MOST_STEPS):
        path = tmp_path / str(step) / "bundle"
        write(path, "old")
        killed = killed_before(step, path)
        if system == "exchange":
            assert path.exists()
        replacing.recover(path)
        outcomes.append(content(path))
        assert [file.name for file in path.parent.iterdir()] == ["bundle"]
        write(path, "next")
        assert content(path) == "next"
        if not killed:
            break
    assert not killed, "it has more steps than were tried"
    assert outcomes == sorted(outcomes, reverse=True), "from some step on it is the new one"
    assert set(outcomes) == {"old", "new"}


def test_the_two_systems_differ(tmp_path, monkeypatch):
    """In the moment between two renames there is none, so the exchange is really made."""
    seen = []
    monkeypatch.setattr(replacing, "_exchange", lambda one, other: seen.append((one, other)) or False)
    path = tmp_path / "bundle"
    write(path, "old")
    assert seen == []
    write(path, "new")
    assert [other for _, other in seen] == [path]
    assert content(path) == "new"


@pytest.mark.parametrize("reason", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_cannot_exchange_is_served_all_the_same(tmp_path, monkeypatch, reason):
    class Library:
        @staticmethod
        def renameat2(*_):
            replacing.ctypes.set_errno(reason)
            return -1

    monkeypatch.setattr(replacing.ctypes, "CDLL", lambda *_, **__: Library)
    write(tmp_path / "bundle", "old")
    write(tmp_path / "bundle", "new")
    assert content(tmp_path / "bundle") == "new"


def test_any_other_refusal_is_told(tmp_path, monkeypatch):
    class Library:
        @staticmethod
        def renameat2(*_):
            replacing.ctypes.set_errno(errno.EACCES)
            return -1

    monkeypatch.setattr(replacing.ctypes, "CDLL", lambda *_, **__: Library)
    write(tmp_path / "bundle", "old")
    with pytest.raises(OutputError, match="Permission denied; allow it"):
        write(tmp_path / "bundle", "new")
    assert content(tmp_path / "bundle") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]


def test_a_system_without_the_call(monkeypatch, tmp_path):
    monkeypatch.setattr(replacing.ctypes, "CDLL", lambda *_, **__: object())
    write(tmp_path / "bundle", "old")
    write(tmp_path / "bundle", "new")
    assert content(tmp_path / "bundle") == "new"


def test_a_second_rename_that_fails_puts_the_old_one_back(tmp_path, monkeypatch):
    monkeypatch.setattr(replacing, "_exchange", lambda _one, _other: False)
    path = tmp_path / "bundle"
    write(path, "old")
    rename = type(path).rename

    def refuse(source, target):
        if source.name == "new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(source, target)

    monkeypatch.setattr(type(path), "rename", refuse)
    with pytest.raises(OutputError, match="No space left"):
        write(path, "new")
    assert content(path) == "old"


def test_interrupted_between_two_renames_the_old_one_comes_back(tmp_path, monkeypatch):
    """Even where the interruption comes in no statement's reach, as just after the first rename."""
    monkeypatch.setattr(replacing, "_exchange", lambda _one, _other: False)
    path = tmp_path / "bundle"
    write(path, "old")
    rename = type(path).rename

    def interrupted(source, target):
        rename(source, target)
        if target.name == "old":
            raise KeyboardInterrupt

    monkeypatch.setattr(type(path), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(path, "new")
    assert content(path) == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("when", ["before it is opened", "before it is locked"])
def test_a_cradle_that_another_took_for_abandoned_is_made_again(tmp_path, monkeypatch, when):
    function = {"before it is opened": "_opened", "before it is locked": "_lock"}[when]
    original, left = getattr(replacing, function), [1]

    def late(argument):
        if left:
            left.pop()
            for cradle in tmp_path.iterdir():
                shutil.rmtree(cradle)
        return original(argument)

    monkeypatch.setattr(replacing, function, late)
    write(tmp_path / "bundle", "new")
    assert content(tmp_path / "bundle") == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]


def test_who_still_works_is_left_alone(tmp_path):
    path = tmp_path / "bundle"
    with directory_atomic(path) as folder:
        (folder / "one").write_text("mine")
        replacing.recover(path)
        write(path, "another's")  # who writes there meanwhile does not disturb
        (folder / "two").write_text("mine")
    assert content(path) == "mine"


def test_without_locks_nobody_is_taken_for_dead(tmp_path, monkeypatch):
    def refuse(_descriptor, _how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "bundle"
    with directory_atomic(path) as folder:
        (folder / "one").write_text("mine")
        write(path, "another's")
        (folder / "two").write_text("mine")
    assert content(path) == "mine"


@pytest.mark.parametrize("name", ["bundle", "[a]*?"])
def test_nothing_else_that_lies_there_is_touched(tmp_path, name):
    """Hidden folders with similar names, and other bundles' leftovers."""
    for other in (
        ".bundle.git",
        ".bundlee.x.ofa_tvm-unfinished",
        ".a.x.ofa_tvm-unfinished",
        ".bundle.file.ofa_tvm-unfinished",
    ):
        (tmp_path / other).touch() if "file" in other else (tmp_path / other).mkdir()
    before = {file.name for file in tmp_path.iterdir()}
    write(tmp_path / name, "old")
    write(tmp_path / name, "new")
    assert {file.name for file in tmp_path.iterdir()} == before | {name}


def test_a_file_in_the_way_is_not_replaced(tmp_path):
    (tmp_path / "bundle").write_text("mine")
    with pytest.raises(OutputError, match="move away what is in the way"):
        write(tmp_path / "bundle", "new")
    assert (tmp_path / "bundle").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]
