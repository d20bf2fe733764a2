"""The host's machine, kernels compared with float64 numpy, and a bench whose device does as it is told."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm.target import Target
from tvm.target.codegen import llvm_cpu_has_features
from typing_extensions import override

from ofa_tvm.compiler import layout
from ofa_tvm.compiler.cpu_features import architecture_of
from ofa_tvm.compiler.identity import identity_of
from ofa_tvm.compiler.kernel_bench import REFERENCE, KernelBench
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.linking import HOST_COMPILER, link_library
from ofa_tvm.compiler.machine import Machine, machine_of, resolve_tvm_target
from ofa_tvm.compiler.object_code import build_kernels, object_file
from ofa_tvm.compiler.templates import TEMPLATES, Parameters, kernel_module
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.measurement.device import Device, Float32Array
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.job import Job, KernelJob, SubnetJob
from ofa_tvm.measurement.limits import Limits
from ofa_tvm.measurement.records import RecordStore
from ofa_tvm.measurement.sources import DeviceSource, Offer
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import MeasurementProtocol, load_target

Array = NDArray[np.float64]
Check = Callable[..., None]
Script = Callable[[Workload, int], float]


AVX2 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "haswell"}


@pytest.fixture(scope="session")
def host() -> Target:
    return resolve_tvm_target("host", threads=1)


@pytest.fixture(scope="session")
def avx2(host: Target) -> Target:
    """Code of another instruction set than the host's own, where it can run it and its own is AVX-512."""
    if architecture_of(host) != "x86_64" or not llvm_cpu_has_features(["avx2", "fma"], host):
        pytest.skip("this CPU has no AVX2")
    if machine_of(host).lanes == 8:
        pytest.skip("this CPU's own code is of AVX2")
    return resolve_tvm_target(AVX2, threads=1)


@pytest.fixture(scope="session")
def machine(host: Target) -> Machine:
    return machine_of(host)


class ScriptedBench(KernelBench):
    """A bench that tells how often each workload was timed."""

    timed: Counter[Workload]


class ScriptedDevice(Device):
    """Latencies in ms by workload and by how often it was timed before, which is the candidate's number in tuning."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.timed: Counter[Workload] = Counter()
        self.closed = False

    @property
    @override
    def is_open(self) -> bool:
        return not self.closed

    @override
    def close(self) -> None:
        self.closed = True

    @property
    @override
    def name(self) -> str:
        return "scripted"

    @property
    @override
    def emulated(self) -> bool:
        return True

    @override
    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        if job.workload == REFERENCE:
            return (1.0,)
        self.timed[job.workload] += 1
        return (self.script(job.workload, self.timed[job.workload] - 1),)

    @override
    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        raise AssertionError("no subnets here")

    @override
    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
        raise AssertionError("nothing is compiled here")


class ScriptedSource(DeviceSource):
    """One device, for the first so many connections."""

    limit = 1
    needs_library = False

    def __init__(self, device: Device, connections: int) -> None:
        super().__init__()
        self.device = device
        self.connections = connections

    @override
    def offer(self) -> Offer | None:
        self.connections -= 1
        return ScriptedOffer(self.device) if self.connections >= 0 else None

    @override
    def explain(self) -> str:
        return "the scripted device is gone"


class ScriptedOffer(Offer):
    identity = "scripted"

    def __init__(self, device: Device) -> None:
        self.device = device

    @override
    def connect(self) -> Device:
        return self.device


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[[Script], ScriptedBench]:
    """A bench on a scripted device; all that one test makes share one file of records."""

    def make(script: Script) -> ScriptedBench:
        target = load_target("null")
        toolchain = Toolchain.of(target)
        objects = KernelObjects(toolchain.tvm_target, toolchain.machine)
        store = RecordStore(tmp_path / "records.jsonl", identity_of(target, toolchain))
        device = ScriptedDevice(script)
        farm = Farm(ScriptedSource(device, connections=1), print, limits=Limits(absence_s=0.2))
        bench = ScriptedBench(target, toolchain, objects, farm, store, tmp_path / "metaschedule", tmp_path)
        bench.timed = device.timed
        return bench

    return make


@pytest.fixture(scope="session")
def check_kernels(host: Target, machine: Machine) -> Check:
    """`checker` for this host's own instruction set."""
    return checker(host, machine)


def checker(target: Target, machine: Machine) -> Check:
    """Compile the kernels as one module, run each, and compare it with a direct float64 computation."""

    def check(kernels: list[tuple[Workload, Parameters]], machine: Machine = machine) -> None:
        entries = [(f"kernel_{n}", workload, parameters) for n, (workload, parameters) in enumerate(kernels)]
        code = object_file(build_kernels(kernel_module(entries, machine), target))
        with tempfile.TemporaryDirectory() as folder:
            link_library(Path(folder) / "kernels.so", {"kernels": code}, HOST_COMPILER)
            library = tvm.runtime.load_module(str(Path(folder) / "kernels.so"))
        for symbol, workload, parameters in entries:
            arguments, expected = problem(workload, machine)
            shapes = TEMPLATES[workload.kind].argument_shapes(workload, machine)
            assert list(shapes) == list(arguments)
            assert {name: array.shape for name, array in arguments.items()} == shapes
            tensors = {name: tvm.runtime.tensor(array) for name, array in arguments.items()}
            library[symbol](*tensors.values())
            for name, values in expected.items():
                result = layout.unpack_activation(tensors[name].numpy(), workload.out_channels)
                worst = np.abs(result - values).max() / max(np.abs(values).max(), 1e-30)
                assert worst < 1e-5, f"{workload.key} {parameters}: relative error {worst:.1e} of {name}"

    return check


def problem(workload: Workload, machine: Machine) -> tuple[dict[str, NDArray[np.float32]], dict[str, Array]]:
    """Packed arguments by name (outputs filled with NaN), and the outputs expected, such as ``(1, OC, OH, OW)``."""
    random, v = np.random.default_rng(0), machine.lanes

    def draw(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float32).astype(np.float64)

    c, oc, k = workload.in_channels, workload.out_channels, workload.kernel_size
    data = draw(1, c, workload.height, workload.width)
    image = data.astype(np.float32) if workload.kind == "conv" else dirty(data, v)
    output = np.full((layout.blocks(oc, v), workload.output_height, workload.output_width, v), np.nan, np.float32)
    if workload.kind == "pool":
        return {"data": image, "output": output}, {"output": data.mean((2, 3), keepdims=True)}
    factors = draw(1, c, 1, 1)
    if workload.kind == "scale":
        return {"data": image, "factors": dirty(factors, v), "output": output}, {"output": data * factors}
    pack = {
        "pointwise": layout.pack_pointwise_weight,
        "depthwise": layout.pack_depthwise_weight,
        "conv": layout.pack_conv_weight,
    }[workload.kind]
    weight, bias = draw(oc, 1 if workload.kind == "depthwise" else c, k, k), draw(oc)
    residual = draw(1, oc, workload.output_height, workload.output_width)
    arguments = {"data": image, "weight": pack(weight, v), "bias": layout.pack_bias(bias, v)}
    if workload.scaled:
        arguments["factors"] = dirty(factors, v)
        data = data * factors
    if workload.residual:
        arguments["residual"] = dirty(residual, v)
    sums = convolution(data, weight, workload) + bias[:, None, None]
    expected = {"output": activation(sums, workload.activation) + (residual if workload.residual else 0)}
    arguments["output"] = output
    if workload.pooled:
        arguments["pooled"] = output[:, :1, :1].copy()
        expected["pooled"] = expected["output"].mean((2, 3), keepdims=True)
    return arguments, expected


def dirty(array: Array, lanes: int) -> NDArray[np.float32]:
    """Packed, with large values in the channels that pad the last block: they must not leak."""
    packed = layout.pack_activation(array, lanes)
    if rest := array.shape[1] % lanes:
        packed[-1, ..., rest:] = 1e6
    return packed


def convolution(data: Array, weight: Array, workload: Workload) -> Array:
    """Direct convolution in float64, dense or depthwise by the weight's shape."""
    k, s = workload.kernel_size, workload.stride
    padded = np.pad(data[0], ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))[:, ::s, ::s]
    if workload.kind == "depthwise":
        return np.einsum("chwyx,cyx->chw", windows, weight[:, 0])[None]
    return np.einsum("chwyx,ocyx->ohw", windows, weight, optimize=True)[None]


def activation(x: Array, name: str) -> Array:
    sigmoid = np.clip(x + 3, 0, 6) / 6
    return {
        "none": x,
        "relu": np.maximum(x, 0),
        "relu6": np.clip(x, 0, 6),
        "h_swish": x * sigmoid,
        "h_sigmoid": sigmoid,
    }[name]
