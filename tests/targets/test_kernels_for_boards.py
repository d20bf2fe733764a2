"""Kernels for the boards' targets are 64-bit Arm code, and under emulation they compute what numpy does."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tvm_ffi import libinfo

from ofa_tvm.compiler import layout
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.linking import link_library
from ofa_tvm.compiler.machine import machine_of, resolve_tvm_target
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import Target, known_targets, load_target

EM_AARCH64 = 183
LIMIT_S = 120
QEMU = "qemu-aarch64-static"
# The nearest that qemu 7.2 has; none knows a generic core or a Cortex-A78AE, whose base the Cortex-A76 shares.
QEMU_CPUS = {"generic": "cortex-a53", "cortex-a78ae": "cortex-a76"}
BOARDS = [name for name in known_targets() if load_target(name).device.kind == "rpc"]
POINTWISE = Workload("pointwise", 24, 40, 6, 7)
DEPTHWISE = Workload("depthwise", 24, 24, 8, 8, kernel_size=5, stride=2)


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> Target:
    target = load_target(request.param)
    _need(str(target.cross_compiler))
    return target


def _need(program: str) -> None:
    if shutil.which(program):
        return
    if os.environ.get("OFA_TVM_REQUIRE_EMULATION") == "1":
        pytest.fail(f"{program} is not installed")
    pytest.skip(f"{program} is not installed")


def _objects(target: Target, workloads: list[Workload]) -> dict[str, bytes]:
    tvm_target = resolve_tvm_target(target.tvm_target, target.threads)
    machine = machine_of(tvm_target, target.cpu.l1d_kib)
    kernels = KernelObjects(tvm_target, machine)
    return dict(kernels.get(workloads, lambda workload: TEMPLATES[workload.kind].default(workload, machine)))


def test_a_library_of_kernels_is_arm_code(board: Target, tmp_path: Path):
    path = tmp_path / "library.so"
    link_library(path, _objects(board, [POINTWISE, DEPTHWISE]), str(board.cross_compiler))
    header = path.read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == EM_AARCH64


@pytest.mark.parametrize("workload", [POINTWISE, DEPTHWISE], ids=lambda workload: str(workload.kind))
def test_a_kernel_computes_what_numpy_does(board: Target, workload: Workload, tmp_path: Path):
    _need(QEMU)
    symbol, code = next(iter(_objects(board, [workload]).items()))
    program = _build(str(board.cross_compiler), symbol, code, tmp_path)
    arguments, expected = _problem(workload, lanes=4)
    words = list(_write(arguments, tmp_path))
    mcpu = str(board.tvm_target["mcpu"])  # type: ignore[index]
    environment = {**os.environ, "QEMU_CPU": QEMU_CPUS.get(mcpu, mcpu)}
    result = subprocess.run(
        [QEMU, str(program), *words], capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environment
    )
    assert result.returncode == 0, result.stderr
    output = np.fromfile(tmp_path / "output", np.float32).reshape(arguments["output"].shape)
    computed = layout.unpack_activation(output, workload.out_channels)
    assert np.abs(computed - expected).max() < 1e-5 * np.abs(expected).max()


def _build(compiler: str, symbol: str, code: bytes, folder: Path) -> Path:
    kernel, program = folder / "kernel.o", folder / "run_kernel"
    kernel.write_bytes(code)
    source = Path(__file__).with_name("run_kernel.c")
    options = [
        "-static",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{libinfo.find_include_path()}",
        f"-I{libinfo.find_dlpack_include_path()}",
    ]
    command = [compiler, *options, f"-DKERNEL=__tvm_ffi_{symbol}", "-x", "c", str(source), "-x", "none", str(kernel)]
    subprocess.run([*command, "-o", str(program)], check=True, timeout=LIMIT_S)
    return program


def _write(arguments: dict[str, NDArray[np.float32]], folder: Path) -> Iterator[str]:
    for name, array in arguments.items():
        array.astype(np.float32).tofile(folder / name)
        yield f"{folder / name}:{','.join(str(size) for size in array.shape)}"


def _problem(workload: Workload, lanes: int) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float64]]:
    """Packed arguments with an output full of NaN, and what has to come out; both convolutions written out."""
    random, k, s = np.random.default_rng(0), workload.kernel_size, workload.stride
    depthwise = workload.kind == "depthwise"
    data = random.standard_normal((1, workload.in_channels, workload.height, workload.width)).astype(np.float32)
    taps = 1 if depthwise else workload.in_channels
    weight = random.standard_normal((workload.out_channels, taps, k, k)).astype(np.float32)
    bias = random.standard_normal(workload.out_channels).astype(np.float32)
    padded = np.pad(data[0].astype(np.float64), ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))[:, ::s, ::s]
    sums = np.einsum(
        "chwyx,cyx->chw" if depthwise else "chwyx,ocyx->ohw", windows, weight[:, 0] if depthwise else weight
    )
    pack = layout.pack_depthwise_weight if depthwise else layout.pack_pointwise_weight
    shape = (layout.blocks(workload.out_channels, lanes), workload.output_height, workload.output_width, lanes)
    arguments = {
        "data": layout.pack_activation(data, lanes),
        "weight": pack(weight, lanes),
        "bias": layout.pack_bias(bias, lanes),
        "output": np.full(shape, np.nan, np.float32),
    }
    return arguments, (sums + bias[:, None, None])[None]
