"""Kernels of a search space, built once for a target, to be measured again and again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.compiler.kernel_bench import REFERENCE
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.linking import link_library
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.measurement.job import KernelJob
from ofa_tvm.space.mobilenet_v3 import all_workloads
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.targets import Target


@dataclass(frozen=True, slots=True)
class Kernels:
    """All in one library: what has measured the reference kernel has uploaded the others."""

    reference: KernelJob
    jobs: list[KernelJob]


def build_kernels(target: Target, space: SearchSpace, resolution: int, count: int, folder: Path) -> Kernels:
    """So many kernels of one resolution, picked evenly, with default parameters; the library comes into `folder`.

    Raises
    ------
    InvalidTargetError, CompileError
        The target can't be compiled for.
    """
    workloads = all_workloads(space, resolution)
    picked = [workloads[index * len(workloads) // count] for index in range(count)]
    toolchain = Toolchain.of(target)
    machine = toolchain.machine
    objects = KernelObjects(toolchain.tvm_target, machine)
    compiled = objects.get([REFERENCE, *picked], lambda workload: TEMPLATES[workload.kind].default(workload, machine))
    library = folder / f"{target.name}.so"
    link_library(library, compiled, toolchain.cross_compiler)
    reference, *jobs = [
        KernelJob(
            library=library,
            function=workload.key,
            shapes=tuple(TEMPLATES[workload.kind].argument_shapes(workload, machine).values()),
            workload=workload,
        )
        for workload in (REFERENCE, *picked)
    ]
    return Kernels(reference, jobs)
