"""The native server as a 64-bit Arm board runs it, under qemu's user emulation, with the runtime of the Arm wheels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm.support import cc

CROSS_COMPILER, EMULATOR, SYSROOT = "aarch64-linux-gnu-gcc", "qemu-aarch64-static", Path("/usr/aarch64-linux-gnu")
PACKAGES = ("apache-tvm", "apache-tvm-ffi")
LIBRARIES = ("libtvm_ffi.so", "libtvm_runtime.so", "libtvm_runtime_extra.so")
MISSING = [tool for tool in (CROSS_COMPILER, EMULATOR) if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(not MISSING and not SYSROOT.is_dir(), reason=f"no Arm C library in {SYSROOT}"),
]


@pytest.fixture(scope="session")
def arm_libraries() -> Path:
    """The runtime's libraries out of the wheels for aarch64, kept for the next run."""
    pins = [f"{package}=={version(package)}" for package in PACKAGES]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ofa_tvm" / "aarch64" / "_".join(pins)
    if not (cache / "versions").exists():
        wheels = cache / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--platform", "manylinux_2_28_aarch64", "--dest", str(wheels)]
        run = subprocess.run([*command, *pins], capture_output=True, text=True)
        if run.returncode != 0:
            pytest.skip(f"cannot fetch the wheels for aarch64: {run.stderr.strip().splitlines()[-1]}")
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.namelist():
                    if Path(member).name in LIBRARIES:
                        (cache / Path(member).name).write_bytes(archive.read(member))
        shutil.rmtree(wheels)
        (cache / "versions").write_text("".join(f"{package} {version(package)}\n" for package in PACKAGES))
    return cache


@pytest.fixture(scope="session")
def server_command(build: Callable[..., Path], arm_libraries: Path) -> Callable[[str], list[Any]]:
    def command(kind: str) -> list[Any]:
        server = build("--arch", "aarch64", compiler=CROSS_COMPILER)
        return [EMULATOR, "-L", SYSROOT, server, "--libraries", arm_libraries]

    return command


def test_registers_and_runs_cross_compiled_kernels(
    farm, compile_kernels: Callable[[str], Path], compile_subnet: Callable[..., Path]
):
    server = farm.start_server("native")
    session = farm.session()
    kernels = compile_kernels(CROSS_COMPILER)
    np.testing.assert_array_equal(session.run(session.module(kernels), "double"), [0, 2, 4, 6])
    target = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"}
    subnet = compile_subnet(target, fcompile=cc.cross_compiler(CROSS_COMPILER))
    np.testing.assert_allclose(session.run_subnet(subnet), [[6], [24]])
    info = json.loads(session.within(lambda: session.remote.get_function("ofa_tvm.device_info")()))
    assert (info["server"], info["machine"]) == ("native", "aarch64")
    assert info["versions"] == {package: version(package) for package in PACKAGES}
    assert server.process.poll() is None


def test_crash_and_hang_end_only_their_sessions(farm, compile_kernels: Callable[[str], Path]):
    kernels = compile_kernels(CROSS_COMPILER)
    farm.start_server("native")
    session = farm.session()
    module = session.module(kernels)
    with pytest.raises(Exception, match="SIGSEGV"):
        session.run(module, "segfault")
    session = farm.session()
    module = session.module(kernels)
    with pytest.raises(TimeoutError):
        session.run(module, "hang", limit_s=0.5)
    session = farm.session()
    np.testing.assert_array_equal(session.run(session.module(kernels), "double"), [0, 2, 4, 6])
