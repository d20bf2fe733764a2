"""Packages for a board, fetched by this host, so that the board needs no internet and no compiler."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from ofa_tvm.errors import BoardSetUpError
from ofa_tvm.files import directory_atomic
from ofa_tvm.homes import cache_folder
from ofa_tvm.locks import file_locked

DOWNLOAD_LIMIT_S = 600.0
OLDEST_GLIBC_MINOR, GLIBC_MINOR = 17, 28
COMPILER_LIBRARY = "tvm/lib/libtvm_compiler.so"


def tvm_requirements() -> tuple[str, ...]:
    """The packages of TVM's runtime, at the versions that this host compiles with."""
    return tuple(f"{name}=={version(name)}" for name in ("apache-tvm", "apache-tvm-ffi"))


def download(
    requirements: tuple[str, ...],
    machine: str,
    python: tuple[int, int],
    say: Callable[[str], None],
    *,
    dependencies: bool = True,
) -> list[Path]:
    """Wheels for a machine and its Python, from the cache if they were fetched before.

    TVM's wheel comes without its compiler, which is nine tenths of it and serves nothing on a board.

    Raises
    ------
    BoardSetUpError
        pip does not find them, or can't reach its index.
    """
    wanted = "\n".join([*requirements, machine, f"{python}", f"{dependencies}"])
    folder = cache_folder() / "wheels" / f"{machine}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    with file_locked(folder.with_suffix(".lock"), "gets packages", say):
        if not folder.is_dir():
            say(f"getting packages for {machine}, Python {python[0]}.{python[1]}, with pip")
            with directory_atomic(folder) as unfinished:
                _pip_download(requirements, machine, python, unfinished, dependencies)
                for wheel in unfinished.glob("apache_tvm-*.whl"):
                    _leave_out(COMPILER_LIBRARY, wheel)
    return sorted(folder.glob("*.whl"))


def _pip_download(
    requirements: tuple[str, ...], machine: str, python: tuple[int, int], folder: Path, dependencies: bool
) -> None:
    glibc = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, OLDEST_GLIBC_MINOR - 1, -1)]
    options = ["--only-binary=:all:", f"--python-version={python[0]}.{python[1]}", "--implementation=cp"]
    options += [*glibc, f"--platform=manylinux2014_{machine}", *([] if dependencies else ["--no-deps"])]
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-input"]
    try:
        run = subprocess.run(
            [*command, *options, "--dest", folder, *requirements],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise BoardSetUpError(f"pip did not get the packages within {DOWNLOAD_LIMIT_S:.0f} s; try again") from error
    if run.returncode != 0:
        errors = [line for line in run.stderr.splitlines() if line.startswith("ERROR")] or run.stderr.splitlines()
        raise BoardSetUpError(
            f"pip on this host cannot get {', '.join(requirements)} for Python {python[0]}.{python[1]} on {machine}:"
            f" {errors[0] if errors else f'exit code {run.returncode}'}; is this host online?"
        )


def _leave_out(name: str, wheel: Path) -> None:
    """Write a wheel again without one of its files."""
    slim = wheel.with_suffix(".slim")
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(slim, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            if entry.filename == name:
                continue
            content = source.read(entry)
            if entry.filename.endswith(".dist-info/RECORD"):
                kept = [line for line in content.splitlines(keepends=True) if not line.startswith(name.encode())]
                content = b"".join(kept)
            target.writestr(entry, content, zipfile.ZIP_DEFLATED)
    slim.replace(wheel)
