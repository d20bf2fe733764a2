from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import te
from tvm.target import Target

from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.linking import HOST_COMPILER, link_library
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import Parameters
from ofa_tvm.space.workload import Workload


@pytest.fixture
def kernels(host: Target, machine: Machine) -> dict[str, bytes]:
    return KernelObjects(host, machine).get([Workload("pool", 16, 16, 2, 2)], lambda _: Parameters())


def _readelf(option: str, path: Path) -> str:
    return subprocess.run(["readelf", option, "--wide", path], capture_output=True, text=True, check=True).stdout


def test_a_library_needs_nothing_that_a_device_may_lack(kernels: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "kernels.so"
    link_library(path, kernels, HOST_COMPILER)
    assert set(re.findall(r"NEEDED.*\[(.*)\]", _readelf("--dynamic", path))) <= {"libm.so.6", "libc.so.6"}
    assert ".debug_info" not in _readelf("--sections", path)
    assert next(iter(kernels)) in _readelf("--symbols", path)  # profilers can still name a kernel


def test_a_kernel_may_call_the_mathematical_library(host: Target, tmp_path: Path) -> None:
    source = te.placeholder((4,), "float32")
    cosine = te.create_prim_func([source, te.compute((4,), lambda i: te.cos(source[i]))])
    tvm.tirx.build(tvm.IRModule({"cosine": cosine.with_attr("global_symbol", "cosine")}), host).write_to_file(
        str(tmp_path / "cosine.o")
    )
    path = tmp_path / "kernels.so"
    link_library(path, {"cosine": (tmp_path / "cosine.o").read_bytes()}, HOST_COMPILER)
    angles = np.arange(4, dtype=np.float32)
    result = tvm.runtime.tensor(np.zeros(4, np.float32))
    tvm.runtime.load_module(str(path))["cosine"](tvm.runtime.tensor(angles), result)
    np.testing.assert_allclose(result.numpy(), np.cos(angles), rtol=1e-5)
