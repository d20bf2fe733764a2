"""Many subnets from supernet to library, several at a time; one that fails is a value among the others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.kernels import ScheduleOf
from ofa_tvm.compiler.workers import map_in_workers
from ofa_tvm.errors import CompileError, StageError
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.lowering.lower import lower
from ofa_tvm.lowering.outputs import Array, random_image
from ofa_tvm.measurement.job import SubnetJob
from ofa_tvm.measurement.protocol import MeasurementFailure, failed_on, not_built
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.mobilenet_v3 import INPUT_CHANNELS, workloads
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.supernet.threads import one_torch_thread

BuiltSubnet = SubnetJob | MeasurementFailure


def build_subnets(
    bench: KernelBench, supernet: Supernet, architectures: Sequence[Architecture], schedule_of: ScheduleOf
) -> list[BuiltSubnet]:
    """Extract, lower, compile and link subnets, and check the outputs of each library on a device of the bench.

    Returns
    -------
    list
        For each architecture its job, or why there is none: a stage failed, or computed something else than the one
        before it; on the device, two did, or the only one.

    Raises
    ------
    DeviceError
        There is no device any more.
    OutputError
        A library can't be written.
    """
    jobs = [_job(bench, supernet, architecture, index) for index, architecture in enumerate(architectures)]
    if not bench.farm.needs_library:
        return list(jobs)
    # All kernels first: the workers that need one would each compile it. One that fails does so again below, where
    # it is known which subnets need it.
    with contextlib.suppress(CompileError):
        bench.objects.build((workload, schedule_of(workload)) for job in jobs for workload in job.workloads)

    def build(numbered: tuple[int, Architecture]) -> _Sample | MeasurementFailure:
        index, architecture = numbered
        try:
            return _build(bench, supernet, architecture, schedule_of, jobs[index])
        except StageError as error:
            return not_built(error)

    samples = _in_workers(build, list(enumerate(architectures)))
    return [
        sample if isinstance(sample, MeasurementFailure) else _checked(bench, architecture, job, sample)
        for architecture, job, sample in zip(architectures, jobs, samples, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Sample:
    """An image and PyTorch's logits for it, float32 (1, 3, R, R) and (1, classes)."""

    image: Array
    logits: Array


_Numbered = tuple[int, Architecture]
_Outcome = _Sample | MeasurementFailure


def _in_workers(build: Callable[[_Numbered], _Outcome], items: Sequence[_Numbered]) -> list[_Outcome]:
    """The outcome of each; if a worker dies, one after the other, to see of which."""

    def describe(numbered: _Numbered) -> str:
        return f"subnet {numbered[1]}"

    try:
        return map_in_workers(build, items, describe, may_kill=True)
    except CompileError:
        return [_alone(build, item, describe) for item in items]


def _alone(build: Callable[[_Numbered], _Outcome], item: _Numbered, describe: Callable[[_Numbered], str]) -> _Outcome:
    try:
        return map_in_workers(build, [item], describe, may_kill=True)[0]
    except CompileError as error:
        return not_built(error)


def _job(bench: KernelBench, supernet: Supernet, architecture: Architecture, index: int) -> SubnetJob:
    shape = (1, INPUT_CHANNELS, architecture.resolution, architecture.resolution)
    return SubnetJob(bench.folder / f"subnet_{index}.so", shape, workloads(supernet.space, architecture))


def _build(
    bench: KernelBench, supernet: Supernet, architecture: Architecture, schedule_of: ScheduleOf, job: SubnetJob
) -> _Sample:
    with one_torch_thread():
        lowered = lower(supernet.extract(architecture), random_image(architecture.resolution, seed=0))
    bench.compile(lowered.imported, schedule_of).export(job.library)
    return _Sample(lowered.sample_input, lowered.sample_output)


def _checked(bench: KernelBench, architecture: Architecture, job: SubnetJob, sample: _Sample) -> BuiltSubnet:
    try:
        bench.farm.run(job, sample.image, partial(check_outputs, f"library of {architecture}", sample.logits))
    except StageError as error:
        return failed_on(bench.farm.name, error)
    return job
