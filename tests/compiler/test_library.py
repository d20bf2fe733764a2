from __future__ import annotations

import dataclasses
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import tvm
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F
from tvm import relax
from tvm.target import Target

from ofa_tvm.compiler import kernels as kernels_module
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.library import CompiledSubnet, compile_subnet
from ofa_tvm.compiler.machine import Machine, machine_of, resolve_tvm_target
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.errors import CompileError, NumericalMismatchError, OutputError
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.lowering.lower import LoweredSubnet, lower
from ofa_tvm.lowering.outputs import onnx_logits, random_image
from ofa_tvm.lowering.relax_import import import_onnx
from ofa_tvm.space.workload import Workload

RESOLUTION = 20
Compile = Callable[[tvm.IRModule], CompiledSubnet]


class _Block(nn.Module):
    """A stem, an inverted bottleneck with squeeze-and-excite and shortcut, and a classifier."""

    def __init__(self, channels: int = 12, middle: int = 20) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.Hardswish())
        self.expand = nn.Sequential(nn.Conv2d(channels, middle, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(middle, middle, 5, 1, 2, groups=middle, bias=False), nn.BatchNorm2d(middle), nn.Hardswish()
        )
        self.reduce, self.excite = nn.Conv2d(middle, 8, 1), nn.Conv2d(8, middle, 1)
        self.project = nn.Sequential(nn.Conv2d(middle, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.head = nn.Linear(channels, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        shortcut = self.stem(image)
        x = self.depthwise(self.expand(shortcut))
        x = x * F.hardsigmoid(self.excite(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))
        return self.head((self.project(x) + shortcut).mean((2, 3)))


class _Uncovered(nn.Module):
    """Layers without a template between others that have one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 12, 3, 2, 1), nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.narrow, self.dense = nn.Conv2d(12, 6, 1), nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8 * 5 * 5, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        x = torch.cat([self.narrow(x), torch.tanh(self.narrow(self.grouped(x)))], dim=1)
        x = F.relu(self.dense(F.avg_pool2d(x, 2)))
        return self.head(x.flatten(1))


def _lowered(subnet: nn.Module) -> LoweredSubnet:
    for module in subnet.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return lower(subnet, random_image(RESOLUTION, seed=0))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def block() -> LoweredSubnet:
    return _lowered(_Block())


@pytest.fixture(scope="module")
def objects(host: Target, machine: Machine) -> KernelObjects:
    return KernelObjects(host, machine)


@pytest.fixture
def compile_here(host: Target, machine: Machine, objects: KernelObjects) -> Compile:
    return lambda mod: compile_subnet(mod, host, machine, _default(machine), kernels=objects)


def _default(machine: Machine) -> Callable[[Workload], Parameters]:
    return lambda workload: TEMPLATES[workload.kind].default(workload, machine)


def _run(compiled: CompiledSubnet, path: Path, image: np.ndarray) -> np.ndarray:
    compiled.export(path)
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(image)).numpy()


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_the_library_computes_what_the_subnet_computes(
    host: Target, block: LoweredSubnet, tmp_path: Path, lanes: int
) -> None:
    _check(block, host, Machine(lanes=lanes, vector_registers=16, multiply_adds_per_cycle=1), tmp_path)


def test_another_instruction_set_computes_it_too(avx2: Target, block: LoweredSubnet, tmp_path: Path) -> None:
    """In its own layout, from the image to the logits."""
    machine = machine_of(avx2)
    assert machine.lanes == 8
    _check(block, avx2, machine, tmp_path)


def _check(block: LoweredSubnet, target: Target, machine: Machine, tmp_path: Path) -> None:
    compiled = compile_subnet(block.imported, target, machine, _default(machine))
    assert compiled.leftovers == ()
    logits = _run(compiled, tmp_path / "subnet.so", block.sample_input)
    assert check_outputs("library", block.sample_output, logits) < 5e-6


def test_operators_without_a_template_are_computed_too(compile_here: Compile, tmp_path: Path) -> None:
    lowered = _lowered(_Uncovered())
    compiled = compile_here(lowered.imported)
    assert {"relax.nn.conv2d", "relax.concat", "relax.tanh", "relax.nn.avg_pool2d"} <= set(compiled.leftovers)
    assert [workload.kind for workload in compiled.workloads] == ["conv", "pointwise", "pointwise", "conv", "pointwise"]
    logits = _run(compiled, tmp_path / "subnet.so", lowered.sample_input)
    assert check_outputs("library", lowered.sample_output, logits) < 5e-6


def test_the_library_needs_nothing_but_its_file(compile_here: Compile, block: LoweredSubnet, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "subnet.so"
    compile_here(block.imported).export(path)
    assert list(path.parent.iterdir()) == [path]
    moved = path.rename(tmp_path / "moved.so")
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(moved)), tvm.cpu())
    logits = [machine["main"](tvm.runtime.tensor(block.sample_input)).numpy() for _ in range(2)]
    np.testing.assert_array_equal(logits[0], logits[1])  # nothing is left over from one run to the next


def test_a_wrong_weight_is_noticed(compile_here: Compile, block: LoweredSubnet, tmp_path: Path) -> None:
    wrong = onnx.ModelProto()
    wrong.CopyFrom(block.model)
    weight = next(tensor for tensor in wrong.graph.initializer if len(tensor.dims) == 2)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += 0.05
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    logits = _run(compile_here(import_onnx(wrong)), tmp_path / "subnet.so", block.sample_input)
    with pytest.raises(NumericalMismatchError, match=r"^library: relative error"):
        check_outputs("library", block.sample_output, logits)
    assert check_outputs("library", onnx_logits(wrong, block.sample_input), logits) < 5e-6


def test_kernels_are_compiled_once(
    compile_here: Compile, block: LoweredSubnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_here(block.imported)
    monkeypatch.setattr(kernels_module, "TEMPLATES", {})
    logits = _run(compile_here(block.imported), tmp_path / "subnet.so", block.sample_input)
    assert check_outputs("library", block.sample_output, logits) < 5e-6


def test_other_parameters_are_another_kernel(objects: KernelObjects) -> None:
    workload = Workload("pointwise", 8, 16, 4, 4)
    first = objects.get([workload], lambda _: Parameters(tile_pixels=2))
    second = objects.get([workload], lambda _: Parameters(tile_pixels=4))
    assert list(first) == list(second) == [workload.key]
    assert first != second


def test_a_missing_compiler_is_named(compile_here: Compile, block: LoweredSubnet, tmp_path: Path) -> None:
    compiled = dataclasses.replace(compile_here(block.imported), cross_compiler="no-such-g++")
    with pytest.raises(CompileError, match=r"^no-such-g\+\+ is not installed"):
        compiled.export(tmp_path / "subnet.so")
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_fails_leaves_nothing_behind(
    compile_here: Compile, block: LoweredSubnet, tmp_path: Path
) -> None:
    compiled = dataclasses.replace(compile_here(block.imported), cross_compiler="false")
    with pytest.raises(CompileError, match=r"^false cannot link subnet.so: ") as caught:
        compiled.export(tmp_path / "subnet.so")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 100  # the command, with every object file, is left out
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_the_users_mistake(
    compile_here: Compile, block: LoweredSubnet, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        compile_here(block.imported).export(tmp_path / "file" / "subnet.so")


CROSS_COMPILER = "aarch64-linux-gnu-g++"
EM_AARCH64 = 183


def _elf_machine(content: bytes) -> int:
    assert content[:4] == b"\x7fELF"
    return int(struct.unpack_from("<H", content, 18)[0])


def test_kernels_and_library_are_for_the_target(block: LoweredSubnet, tmp_path: Path) -> None:
    target = resolve_tvm_target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"}, threads=1)
    machine = machine_of(target)
    compiled = compile_subnet(block.imported, target, machine, _default(machine), CROSS_COMPILER)
    assert {_elf_machine(code) for code in compiled.kernels.values()} == {EM_AARCH64}
    if shutil.which(CROSS_COMPILER) is None:
        pytest.skip(f"linking needs {CROSS_COMPILER}")
    compiled.export(tmp_path / "subnet.so")
    assert _elf_machine((tmp_path / "subnet.so").read_bytes()) == EM_AARCH64


@pytest.mark.parametrize(
    "shape", [(1, 3, RESOLUTION, RESOLUTION + 1), (1, 3, RESOLUTION), (2, 3, RESOLUTION, RESOLUTION)]
)
def test_an_input_of_another_shape_is_refused(
    compile_here: Compile, block: LoweredSubnet, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        _run(compile_here(block.imported), tmp_path / "subnet.so", np.zeros(shape, np.float32))
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        _run(compile_here(block.imported), tmp_path / "double.so", block.sample_input.astype(np.float64))
