"""What goes to a board: the files of a runtime, and the name that says exactly which."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ofa_tvm.boards.probe import Probe, Runtime
from ofa_tvm.boards.wheels import download, tvm_requirements
from ofa_tvm.errors import BoardSetUpError
from ofa_tvm.files import directory_atomic, shipped_folder
from ofa_tvm.homes import cache_folder
from ofa_tvm.locks import file_locked

RECIPE = "1"
"""To be changed when the same files are to be installed in another way."""

NATIVE_SERVER = "ofa_tvm-rpc-server"
GCC_GLIBC = (2, 34)
"""What a server built by the gcc of a Debian of 2023 needs; one built by zig needs 2.17."""
BUILD_LIMIT_S = 300.0
_LIBRARIES = ("tvm_ffi/lib/libtvm_ffi.so", "tvm/lib/libtvm_runtime.so", "tvm/lib/libtvm_runtime_extra.so")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file and its place below the runtime's folder on the board."""

    source: Path
    destination: str
    mode: int = 0o644


def payload_name(found: Probe, runtime: Runtime) -> str:
    """The runtime's folder on the board: another name whenever anything in it would be another."""
    parts = [RECIPE, runtime, found.machine, *tvm_requirements()]
    parts += [str(found.python)] if runtime == "python" else []
    digest = hashlib.sha256("\n".join(parts).encode())
    for path in _scripts() if runtime == "python" else [*_native_sources(), _supervisor()]:
        digest.update(path.name.encode() + path.read_bytes())
    return f"{runtime}-{digest.hexdigest()[:12]}"


def python_payload(found: Probe, say: Callable[[str], None]) -> list[Upload]:
    """Our scripts and the wheels they need, with pip's own to install them.

    Raises
    ------
    BoardSetUpError
        There are no such wheels, or none to be had now.
    """
    assert found.python is not None
    wheels = download((*tvm_requirements(), "pip"), found.machine, found.python, say)
    scripts = [Upload(path, path.name if path == _supervisor() else f"rpc/{path.name}") for path in _scripts()]
    return scripts + [Upload(path, f"wheels/{path.name}") for path in wheels]


def native_payload(found: Probe, say: Callable[[str], None]) -> list[Upload]:
    """The native server, built here for the board's machine, and the three libraries it loads.

    Raises
    ------
    BoardSetUpError
        It can't be built here, or the libraries are not to be had.
    """
    wheels = download(tvm_requirements(), found.machine, sys.version_info[:2], say, dependencies=False)
    compiler = "zig" if find_spec("ziglang") else "gcc"
    if compiler == "gcc" and found.glibc is not None and found.glibc < GCC_GLIBC:
        say(f"this host's gcc may build for a newer glibc than {found.glibc[0]}.{found.glibc[1]}; pip install ziglang")
    folder = cache_folder() / "native" / f"{found.machine}-{compiler}-{payload_name(found, 'native')}"
    with file_locked(folder.with_suffix(".lock"), "builds the native server", say):
        if not folder.is_dir():
            with directory_atomic(folder) as unfinished:
                say(f"building the native RPC server for {found.machine}")
                _build(found.machine, unfinished / NATIVE_SERVER)
                _extract_libraries(wheels, unfinished)
                versions = "".join(line.replace("==", " ") + "\n" for line in tvm_requirements())
                (unfinished / "versions").write_text(versions)
    files = [
        Upload(path, path.name, 0o755 if path.name == NATIVE_SERVER else 0o644) for path in sorted(folder.iterdir())
    ]
    return [*files, Upload(_supervisor(), _supervisor().name)]


def _build(machine: str, out: Path) -> None:
    script = shipped_folder("rpc") / "server" / "build.sh"
    try:
        run = subprocess.run(
            ["bash", script, "--arch", machine, "--out", out],
            env={**os.environ, "PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise BoardSetUpError(f"{script} did not end within {BUILD_LIMIT_S:.0f} s") from error
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
        raise BoardSetUpError(f"the native RPC server cannot be built on this {platform.machine()} host: {lines[-1]}")


def _extract_libraries(wheels: list[Path], folder: Path) -> None:
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in set(_LIBRARIES) & set(archive.namelist()):
                (folder / Path(name).name).write_bytes(archive.read(name))


def _scripts() -> list[Path]:
    return [*sorted(shipped_folder("rpc").glob("*.py")), _supervisor()]


def _native_sources() -> list[Path]:
    return sorted(path for path in (shipped_folder("rpc") / "server").iterdir() if path.suffix in (".c", ".h", ".sh"))


def _supervisor() -> Path:
    return shipped_folder("rpc") / "provisioning" / "supervise.sh"
