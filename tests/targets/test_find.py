"""Targets are found by name, here and in installed packages; what is wrong names the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ofa_tvm.errors import UnknownTargetError
from ofa_tvm.targets import ENTRY_POINT_GROUP, known_targets, load_target

BOARD = """
description: a board of a company
tvm_target: {kind: llvm, mtriple: aarch64-linux-gnu}
device: {kind: rpc, key: foreign}
"""
LOAD = """
import sys
from ofa_tvm.errors import OfaTvmError
from ofa_tvm.targets import known_targets, load_target
try:
    print(load_target(sys.argv[1]).description, *known_targets())
except OfaTvmError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
COMMAND_LIMIT_S = 120


def _install(site: Path, package: str, points: dict[str, str]) -> None:
    """What pip leaves of a package that offers targets."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"[{ENTRY_POINT_GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def _module(site: Path, name: str, targets: dict[str, str], code: str = "") -> None:
    folder = site / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(code)
    for target, text in targets.items():
        (folder / f"{target}.yaml").write_text(text)


def _run(site: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(root)])}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_LIMIT_S,
        env=environment,
        cwd=cwd,
    )


def _refused(site: Path, name: str) -> str:
    result = _run(site, "-c", LOAD, name)
    assert result.returncode == 1, result.stdout
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_unknown_target_names_the_nearest_and_all_known():
    with pytest.raises(UnknownTargetError, match=r"'rasp44'.*did you mean 'rasp4'\?.*arm_cpu.*local") as caught:
        load_target("rasp44")
    assert "\n" not in str(caught.value)


def test_unknown_variant_names_the_nearest_variant():
    with pytest.raises(UnknownTargetError, match=r"did you mean 'rasp4-emulated'\?") as caught:
        load_target("rasp44-emulated")
    assert "rasp4-emulated" not in str(caught.value).partition("known targets")[2]


@pytest.mark.parametrize("name", ["", "nowhere/board.yaml", "../targets/local", "/etc/passwd", "-emulated"])
def test_what_is_no_target_is_unknown(name: str):
    with pytest.raises(UnknownTargetError):
        load_target(name)


def test_loading_a_target_imports_neither_tvm_nor_torch():
    code = (
        "import sys; from ofa_tvm.targets import load_target; load_target('local'); load_target('rasp4-emulated');"
        "sys.exit(bool({'tvm', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=COMMAND_LIMIT_S).returncode == 0


def test_an_installed_package_offers_targets(tmp_path: Path):
    _install(tmp_path, "company_boards", {"foreign": "company_boards"})
    _module(tmp_path, "company_boards", {"foreign": BOARD})
    loaded = _run(tmp_path, "-c", LOAD, "foreign")
    assert loaded.returncode == 0, loaded.stderr
    assert "a board of a company" in loaded.stdout
    assert {"foreign", "rasp4"} <= set(loaded.stdout.split())
    variant = _run(tmp_path, "-c", LOAD, "foreign-emulated")
    assert "mean nothing" in variant.stdout, variant.stderr


def test_a_command_takes_an_installed_target(tmp_path: Path):
    _install(tmp_path, "company_boards", {"foreign": "company_boards"})
    _module(tmp_path, "company_boards", {"foreign": BOARD})
    result = _run(tmp_path, "-m", "ofa_tvm.search", "--target", "foreign", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "profile --target foreign" in result.stderr  # it is known, and only lacks a profile


def test_an_installed_target_without_its_file_names_the_package(tmp_path: Path):
    _install(tmp_path, "company_boards", {"foreign": "company_boards"})
    _module(tmp_path, "company_boards", {})
    message = _refused(tmp_path, "foreign")
    assert "InvalidTargetError: target 'foreign' comes from package company_boards" in message
    assert "lacks the file foreign.yaml" in message


def test_a_broken_installed_target_names_the_package(tmp_path: Path):
    _install(tmp_path, "company_boards", {"foreign": "company_boards"})
    _module(tmp_path, "company_boards", {"foreign": BOARD + "thread: 2\n"})
    message = _refused(tmp_path, "foreign")
    assert "foreign.yaml (of package company_boards): unknown key 'thread', did you mean 'threads'?" in message


@pytest.mark.parametrize(
    ("value", "code"), [("company_bords", ""), ("company_boards", "raise RuntimeError('two\\nlines')"), ("!", "")]
)
def test_a_package_that_cannot_be_imported_is_named(tmp_path: Path, value: str, code: str):
    _install(tmp_path, "company_boards", {"foreign": value})
    _module(tmp_path, "company_boards", {"foreign": BOARD}, code)
    message = _refused(tmp_path, "foreign")
    assert "InvalidTargetError: target 'foreign' comes from package company_boards" in message
    assert "cannot be imported" in message
    assert _run(tmp_path, "-c", LOAD, "rasp4").returncode == 0, "other targets have to be usable"


def test_a_name_that_two_packages_offer_is_refused(tmp_path: Path):
    for package in ("company_boards", "other_boards"):
        _install(tmp_path, package, {"foreign": package, "rasp4": package})
        _module(tmp_path, package, {"foreign": BOARD, "rasp4": BOARD})
    assert "company_boards and other_boards; uninstall all but one" in _refused(tmp_path, "foreign")
    assert "target 'rasp4' comes from ofa_tvm and " in _refused(tmp_path, "rasp4")


def test_an_installed_target_cannot_be_named_like_a_variant(tmp_path: Path):
    _install(tmp_path, "company_boards", {"rasp4-emulated": "company_boards"})
    _module(tmp_path, "company_boards", {"rasp4-emulated": BOARD})
    assert "emulated variants" in _refused(tmp_path, "rasp4-emulated")


def test_an_installed_ofa_tvm_has_its_targets_inside(tmp_path: Path):
    """As pyproject.toml lays out the wheel."""
    root = Path(__file__).parents[2]
    package = tmp_path / "ofa_tvm"
    shutil.copytree(root / "ofa_tvm" / "targets", package / "targets")
    shutil.copytree(root / "targets", package / "_targets")
    for module in (root / "ofa_tvm").glob("*.py"):
        shutil.copy(module, package)
    code = "import ofa_tvm.targets as t; print(t.__file__, *t.known_targets(), t.load_target('rasp4').name)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=COMMAND_LIMIT_S,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
    )
    place, *names = result.stdout.split()
    assert place.startswith(str(tmp_path))
    assert names == [*known_targets(), "rasp4"]


def test_variants_are_not_listed():
    assert not [name for name in known_targets() if name.endswith("-emulated")]
