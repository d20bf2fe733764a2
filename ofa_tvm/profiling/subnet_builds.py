"""Many subnets from supernet to library, several at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.kernels import ScheduleOf
from ofa_tvm.compiler.library import compile_subnet
from ofa_tvm.compiler.workers import map_in_workers
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.lowering.lower import lower
from ofa_tvm.lowering.outputs import Array, random_image
from ofa_tvm.measurement.job import SubnetJob
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.mobilenet_v3 import INPUT_CHANNELS, workloads
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.supernet.threads import one_torch_thread


def build_subnets(
    bench: KernelBench, supernet: Supernet, architectures: Sequence[Architecture], schedule_of: ScheduleOf
) -> list[SubnetJob]:
    """Extract, lower, compile and link subnets, and check the outputs of each library on a device of the bench.

    Raises
    ------
    CompileError
        A stage fails.
    NumericalMismatchError
        A stage computes something else than the one before it; on the device: two do, or the only one.
    MeasurementError, DeviceError, OutputError
        A library can't be run, or not be written.
    """
    jobs = [_job(bench, supernet, architecture, index) for index, architecture in enumerate(architectures)]
    if not bench.farm.needs_library:
        return jobs
    # All kernels first: the workers that need one would each compile it.
    bench.objects.build((workload, schedule_of(workload)) for job in jobs for workload in job.workloads)

    def build(numbered: tuple[int, Architecture]) -> _Sample:
        index, architecture = numbered
        return _build(bench, supernet, architecture, schedule_of, jobs[index])

    samples = map_in_workers(build, list(enumerate(architectures)), lambda numbered: f"subnet {numbered[1]}")
    for architecture, job, sample in zip(architectures, jobs, samples, strict=True):
        bench.farm.run(job, sample.image, partial(check_outputs, f"library of {architecture}", sample.logits))
    return jobs


@dataclass(frozen=True, slots=True)
class _Sample:
    """An image and PyTorch's logits for it, float32 (1, 3, R, R) and (1, classes)."""

    image: Array
    logits: Array


def _job(bench: KernelBench, supernet: Supernet, architecture: Architecture, index: int) -> SubnetJob:
    shape = (1, INPUT_CHANNELS, architecture.resolution, architecture.resolution)
    return SubnetJob(bench.folder / f"subnet_{index}.so", shape, workloads(supernet.space, architecture))


def _build(
    bench: KernelBench, supernet: Supernet, architecture: Architecture, schedule_of: ScheduleOf, job: SubnetJob
) -> _Sample:
    with one_torch_thread():
        lowered = lower(supernet.extract(architecture), random_image(architecture.resolution, seed=0))
    toolchain = bench.toolchain
    compiled = compile_subnet(
        lowered.model,
        toolchain.tvm_target,
        toolchain.machine,
        schedule_of,
        toolchain.cross_compiler,
        bench.objects,
        bench.searched,
    )
    compiled.export(job.library)
    return _Sample(lowered.sample_input, lowered.sample_output)
