"""From a subnet's Relax graph to a shared library that holds kernels, parameters and the program that calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm import relax

from ofa_tvm.compiler.kernels import KernelObjects, ScheduleOf, last_line
from ofa_tvm.compiler.linking import HOST_COMPILER, link_library
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.pipeline import LOWER, to_packed_kernels
from ofa_tvm.errors import CompileError
from ofa_tvm.space.workload import Workload


@dataclass(frozen=True, slots=True)
class CompiledSubnet:
    """A subnet compiled for one target.

    Attributes
    ----------
    executable
        Its function ``main`` takes an image `(1, 3, R, R)` and gives logits `(1, classes)`, both float32. It runs
        when linked with the kernels.
    kernels
        Object files by symbol.
    workloads
        Of the fused kernels, in execution order, with repetition.
    leftovers
        Names of the operators without a kernel template; none for a MobileNetV3.
    cross_compiler
        Links the shared library.
    """

    executable: relax.VMExecutable
    kernels: Mapping[str, bytes]
    workloads: tuple[Workload, ...]
    leftovers: tuple[str, ...]
    cross_compiler: str

    def export(self, path: Path) -> None:
        """Write the shared library, atomically.

        Raises
        ------
        CompileError
            The compiler that links the library is missing or fails.
        OutputError
            `path` can't be written.
        """
        link_library(path, self.kernels, self.cross_compiler, self.executable)


def compile_subnet(
    mod: tvm.IRModule,
    target: tvm.target.Target,
    machine: Machine,
    schedule_of: ScheduleOf,
    cross_compiler: str | None = None,
    kernels: KernelObjects | None = None,
    searched: Path | None = None,
) -> CompiledSubnet:
    """Compile a subnet.

    Parameters
    ----------
    mod
        As `ofa_tvm.lowering.relax_import.import_onnx` gives it.
    target
        What code is generated for.
    machine
        The same target as kernel templates see it.
    schedule_of
        The parameters of a workload's kernel: the best ones tuned, or the template's default.
    cross_compiler
        Command that links for the target, None where that is this host.
    kernels
        Object code of subnets compiled before for this target and machine, which this one adds to.
    searched
        Folder of what MetaSchedule's search has found for operators without a kernel template.

    Raises
    ------
    CompileError
        A stage fails; the message is one line.
    """
    kernels = kernels or KernelObjects(target, machine)
    try:
        packed = to_packed_kernels(mod, machine.lanes, target, searched)
        executable = relax.build(packed.mod, target, relax_pipeline=LOWER)
    except (RuntimeError, ValueError, TypeError) as error:
        raise CompileError(f"TVM cannot build the subnet for {target}: {last_line(error)}") from error
    objects = kernels.get(packed.workloads, schedule_of)
    return CompiledSubnet(executable, objects, packed.workloads, packed.leftovers, cross_compiler or HOST_COMPILER)
