"""Small libraries to measure, and targets that make tests quick."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax, te

from ofa_tvm.measurement.job import KernelJob, SubnetJob
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import Target, load_target

from ..processes import await_true, below

CHANNELS, SIDE, CLASSES = 8, 6, 5
FAULTS = """
int __tvm_ffi_segfault(void *self, const void *arguments, int count, void *result) {
    return *(volatile int *)0;
}
int __tvm_ffi_hang(void *self, const void *arguments, int count, void *result) {
    for (volatile int forever = 1; forever;) {}
    return 0;
}
"""


@pytest.fixture(autouse=True)
def no_tracker_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OFA_TVM_TRACKER", raising=False)


@pytest.fixture(autouse=True, scope="module")
def no_process_left() -> Iterator[None]:
    before = below()
    yield
    await_true(lambda: below() <= before, what=lambda: below() - before)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels ``double`` and ``triple``: a factor times a float32 tensor (C, H, W)."""
    module = tvm.IRModule({"double": _multiply("double", 2.0), "triple": _multiply("triple", 3.0)})
    path = tmp_path_factory.mktemp("kernels") / "kernels.so"
    tvm.compile(module, target="llvm").export_library(str(path))
    return path


@pytest.fixture(scope="session")
def kernel_job(library: Path) -> Callable[[str], KernelJob]:
    """A job by the name of its function."""
    return lambda function: KernelJob(library, function, ((CHANNELS, SIDE, SIDE),) * 2, _workload())


@pytest.fixture(scope="session")
def faulty_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], KernelJob]:
    """Jobs ``segfault`` and ``hang``."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "faults.c").write_text(FAULTS)
    path = folder / "faults.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", path, folder / "faults.c"], check=True)
    return lambda function: KernelJob(path, function, ((1,), (1,)), _workload())


@pytest.fixture(scope="session")
def subnet_weights() -> np.ndarray:
    """(C, classes) float32."""
    return np.random.default_rng(1).standard_normal((CHANNELS, CLASSES)).astype(np.float32)


@pytest.fixture(scope="session")
def subnet_job(tmp_path_factory: pytest.TempPathFactory, subnet_weights: np.ndarray) -> SubnetJob:
    """Global mean pooling and a classifier, as a Relax executable with its weights inside."""
    shape = (1, CHANNELS, SIDE, SIDE)
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType(shape, "float32"))
    with builder.function("main", [image]):
        with builder.dataflow():
            pooled = builder.emit(relax.op.mean(image, axis=[2, 3]))
            scores = builder.emit_output(relax.op.matmul(pooled, relax.const(subnet_weights)))
        builder.emit_func_output(scores)
    path = tmp_path_factory.mktemp("subnet") / "subnet.so"
    tvm.compile(builder.get(), target="llvm").export_library(str(path))
    workloads = (
        Workload("pool", CHANNELS, CHANNELS, SIDE, SIDE),
        Workload("pointwise", CHANNELS, CLASSES, 1, 1),
    )
    return SubnetJob(path, shape, workloads)


@pytest.fixture(scope="session")
def quick_target() -> Callable[..., Target]:
    """A target of the repository with a short protocol, changed as asked."""

    def load(name: str, **measurement: float) -> Target:
        target = load_target(name)
        short = {"repeats": 3, "min_repeat_ms": 0.1, "warmup_runs": 1, "max_drift": 1e6, "timeout_s": 20.0}
        protocol = target.measurement.model_copy(update={**short, **measurement})
        return target.model_copy(update={"measurement": protocol})

    return load


def _workload() -> Workload:
    return Workload("scale", CHANNELS, CHANNELS, SIDE, SIDE)


def _multiply(name: str, factor: float) -> tvm.tirx.PrimFunc:
    source = te.placeholder((CHANNELS, SIDE, SIDE), name="source")
    result = te.compute((CHANNELS, SIDE, SIDE), lambda c, y, x: source[c, y, x] * factor, name="result")
    return te.create_prim_func([source, result]).with_attr("global_symbol", name)
