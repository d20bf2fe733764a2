"""The script that builds the native server, and the executable it makes."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[2] / "rpc" / "server" / "build.sh"
CROSS_COMPILER = "aarch64-linux-gnu-gcc"


def run_build(*options: object, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name != "CC"}
    variables = {**own, "PYTHON": sys.executable, **environment}
    command = [str(word) for word in (BUILD, *options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_builds_without_a_warning_and_says_with_what(compiler: str, tmp_path: Path):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    run = run_build("--out", tmp_path / "folder" / "server", CC=compiler)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.rstrip().endswith(f"with {compiler}")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["server"]
    version = subprocess.run([tmp_path / "folder" / "server", "--version"], capture_output=True, text=True, timeout=60)
    assert version.returncode == 0
    assert os.uname().machine in version.stdout


def test_links_against_the_c_library_alone(build: Callable[..., Path]):
    assert _needed(build()) <= {"libc.so.6", "libdl.so.2", "libpthread.so.0"}


@pytest.mark.skipif(shutil.which(CROSS_COMPILER) is None, reason=f"{CROSS_COMPILER} is not installed")
def test_cross_builds_with_gcc(tmp_path: Path):
    run = run_build("--arch", "aarch64", "--out", tmp_path / "server", CC=CROSS_COMPILER)
    assert run.returncode == 0, run.stderr
    assert _needed(tmp_path / "server") <= {"libc.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-aarch64.so.1"}
    assert "AArch64" in _readelf("--file-header", tmp_path / "server")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
@pytest.mark.parametrize("arch", ["aarch64", "x86_64"])
def test_zig_builds_for_glibc_2_17(arch: str, tmp_path: Path):
    run = run_build("--arch", arch, "--out", tmp_path / "server")
    assert run.returncode == 0, run.stderr
    assert "ziglang" in run.stdout
    needed = re.findall(r"GLIBC_([0-9.]+)", _readelf("--version-info", tmp_path / "server"))
    assert max(tuple(map(int, version.split("."))) for version in needed) <= (2, 17)


def test_missing_compiler_says_what_to_install(tmp_path: Path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "uname", "dirname", "mktemp", "mkdir", "rm"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    run = run_build(
        "--arch", "aarch64", "--out", tmp_path / "server", "--include", tmp_path, PATH=str(tools), PYTHON="none"
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "pip install ziglang" in run.stderr
    assert "apt install gcc-aarch64-linux-gnu" in run.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--arch", "sparc", "--out", "x"], "sparc"),
        ([], "--out"),
        (["--out"], "--out"),
        (["--fast"], "--fast"),
    ],
)
def test_mistake_is_one_line_and_status_2(options: list[str], said: str):
    run = run_build(*options)
    assert run.returncode == 2
    assert said in run.stderr
    assert run.stderr.count("\n") == 1


def test_failed_build_leaves_nothing(tmp_path: Path):
    run = run_build("--out", tmp_path / "server", "--include", tmp_path, CC="gcc")
    assert run.returncode != 0
    assert not list(tmp_path.iterdir())


def _needed(path: Path) -> set[str]:
    return set(re.findall(r"NEEDED.*\[(.*)\]", _readelf("--dynamic", path)))


def _readelf(option: str, path: Path) -> str:
    return subprocess.run(["readelf", option, path], capture_output=True, text=True, check=True).stdout
