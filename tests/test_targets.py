"""Targets: the shipped ones load; mistakes in one's own are one clear line."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from ofa_tvm import targets
from ofa_tvm.errors import InvalidTargetError, UnknownTargetError, UsageError
from ofa_tvm.targets import Target, known_targets, load_target

GOOD = """
description: a board
tvm_target: {kind: llvm, mtriple: aarch64-linux-gnu}
device: {kind: rpc, key: board}
measurement: {repeats: 5}
"""


def _write(folder: Path, text: str) -> str:
    path = folder / "board.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", known_targets())
def test_shipped_target_loads(name: str):
    target = load_target(name)
    assert target.name == name
    assert target.device.key == name
    if target.tvm_target != "host":
        assert target.sources, "figures of a device need their sources"


def test_targets_of_the_main_job_are_there():
    assert {"local", "null", "arm_cpu", "rasp4"} <= set(known_targets())
    assert load_target("local").device.kind == "local"
    assert load_target("null").device.kind == "null"
    assert load_target("null").emulated


def test_path_to_a_target_of_ones_own(tmp_path: Path):
    target = load_target(_write(tmp_path, GOOD))
    assert (target.name, target.device.key, target.measurement.repeats, target.threads) == ("board", "board", 5, 1)
    assert (target.device.tracker_host, target.device.tracker_port) == ("127.0.0.1", 9190)


def test_target_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_target("local").threads = 2  # type: ignore[misc]


def test_unknown_target_names_the_nearest_and_all_known():
    with pytest.raises(UnknownTargetError, match=r"'rasp44'.*did you mean 'rasp4'\?.*arm_cpu.*local") as caught:
        load_target("rasp44")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "nowhere/board.yaml", "../targets/local", "/etc/passwd"])
def test_what_is_no_target_is_unknown(name: str):
    with pytest.raises(UnknownTargetError):
        load_target(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("description: [a\ntvm_target: host\n", "line 2: not YAML"),
        ("description: a\n\tthreads: 1\n", "line 2: not YAML"),
        ("", "a mapping"),
        ("- a\n- b\n", "a mapping"),
        (GOOD + "thread: 2\n", r"unknown key 'thread', did you mean 'threads'\?"),
        (GOOD.replace("repeats", "repeat"), r"unknown key 'measurement.repeat', did you mean 'repeats'\?"),
        (GOOD + "zzz: 2\n", "unknown key 'zzz'"),
        (GOOD + "1: 2\n", "unknown key '1'"),
        (GOOD + "name: other\n", "unknown key 'name'.*file's name"),
        (GOOD + "threads: 1\nthreads: 2\n", "line 7.*'threads'.*twice"),
        (GOOD.replace("kind: rpc", "kind: null"), "device.kind: .*not None"),
        (GOOD.replace("kind: rpc", "kind: usb"), "device.kind: .*not 'usb'"),
        (GOOD.replace("5", "-5"), "measurement.repeats: .*not -5"),
        (GOOD.replace("5", "many"), "measurement.repeats: .*not 'many'"),
        (GOOD.replace("description: a board\n", ""), "missing key 'description'"),
        (GOOD.replace("{kind: llvm, mtriple: aarch64-linux-gnu}", "hosts"), "tvm_target.*'hosts'"),
        ("x: !!python/object/apply:os.system ['true']\n", "line 1: not YAML"),
    ],
)
def test_mistake_in_a_file_is_one_clear_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(InvalidTargetError, match=message) as caught:
        load_target(_write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "board.yaml" in str(caught.value)
    assert isinstance(caught.value, UsageError)


def test_binary_file_is_refused(tmp_path: Path):
    path = tmp_path / "board.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InvalidTargetError):
        load_target(str(path))


def test_installed_package_offers_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "company_boards"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "board.yaml").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    points = EntryPoints([EntryPoint("board", "company_boards", targets.ENTRY_POINT_GROUP)])
    monkeypatch.setattr(targets, "entry_points", lambda group: points.select(group=group))
    assert "board" in known_targets()
    assert isinstance(load_target("board"), Target)


def test_loading_a_target_imports_neither_tvm_nor_torch():
    code = (
        "import sys; from ofa_tvm.targets import load_target; load_target('local');"
        "sys.exit(bool({'tvm', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
