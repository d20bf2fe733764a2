"""The shared root file system is built once, whole or not at all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ofa_tvm.boards.emulation import rootfs
from ofa_tvm.boards.emulation.rootfs import base_root
from ofa_tvm.errors import EmulationError
from ofa_tvm.homes import cache_folder


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Building is a single file here; the list has what was built."""
    built: list[Path] = []

    def build(root: Path, say: object) -> None:
        built.append(root)
        (root / "bin").write_text("complete")

    monkeypatch.setattr(rootfs, "_build", build)
    return built


def test_it_is_built_once(builds: list[Path], tmp_path: Path):
    root = base_root(print, tmp_path)
    assert (root / "bin").read_text() == "complete"
    assert base_root(print, tmp_path) == root
    assert len(builds) == 1


def test_another_recipe_is_another_root(builds: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = base_root(print, tmp_path)
    monkeypatch.setattr(rootfs, "PACKAGES", (*rootfs.PACKAGES, "more"))
    assert base_root(print, tmp_path) != first


def test_of_two_builders_one_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    building, proceed, built = threading.Event(), threading.Event(), []

    def build(root: Path, say: object) -> None:
        built.append(root)
        building.set()
        assert proceed.wait(60)

    monkeypatch.setattr(rootfs, "_build", build)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(base_root, print, tmp_path)
        assert building.wait(60)
        second = pool.submit(base_root, print, tmp_path)
        proceed.set()
        assert first.result(60) == second.result(60)
    assert len(built) == 1


@pytest.mark.parametrize("failure", [EmulationError("no network"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException):
    def build(root: Path, say: object) -> None:
        (root / "half").touch()
        raise failure

    monkeypatch.setattr(rootfs, "_build", build)
    with pytest.raises(type(failure)):
        base_root(print, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_builder_left_is_not_used_but_removed(builds: list[Path], tmp_path: Path):
    half_built = tmp_path / ".arm64-root-0123.xyz"
    half_built.mkdir()
    root = base_root(print, tmp_path)
    assert list(tmp_path.iterdir()) == [root]
    assert len(builds) == 1


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(EmulationError, match=r"cannot use .*/file/cache for emulated boards: Not a directory"):
        base_root(print, tmp_path / "file" / "cache")


def test_an_archive_without_arm64_is_one_line(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sources = tmp_path / "sources.list"
    sources.write_text("deb [trusted=yes] file:///no-such-archive bookworm main\n")
    configuration = tmp_path / "apt.conf"
    configuration.write_text(f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "/dev/null";\n')
    monkeypatch.setattr(rootfs, "APT", (*rootfs.APT, "-c", str(configuration)), raising=False)
    with pytest.raises(EmulationError, match="must name a Debian archive that has arm64") as error:
        base_root(print, tmp_path / "cache")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/ofa_tvm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "ofa_tvm"


def test_the_real_one_holds_what_a_board_needs(base: Path):
    assert base.parent == cache_folder().resolve()
    for path in ("usr/sbin/sshd", "usr/bin/python3", "bin/sh", "usr/bin/awk", "etc/ofa_tvm-emulated", "run/sshd"):
        assert (base / path).exists(), path
    assert list(base.glob("usr/lib/python3.*/venv/__pycache__/*.pyc"))
    assert not list(base.glob("etc/ssh/ssh_host_*"))
    assert not list(base.glob("root/.ssh"))


@pytest.mark.slow
def test_the_real_one_can_be_built(base: Path, tmp_path: Path):
    said: list[str] = []
    root = base_root(said.append, tmp_path)
    assert root.name == base.name
    assert list(tmp_path.iterdir()) == [root]
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (root, base)]
    assert names[0] == names[1]
    assert any("downloading" in line for line in said)
