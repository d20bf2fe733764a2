"""Object code of kernels, compiled once each and linked into every subnet that calls them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import tvm

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.compiler.workers import map_in_workers
from ofa_tvm.errors import CompileError
from ofa_tvm.space.workload import Workload

Kernel = tuple[Workload, Parameters]
ScheduleOf = Callable[[Workload], Parameters]

# Without checks of every argument's type, shape and strides, which double a small kernel's code and its time to
# build: the program that calls the kernels is typed, and checks its own input.
_UNCHECKED = {"tirx.disable_assert": True}


class KernelObjects:
    """Compiles kernels for one target and keeps their object code for as long as it lives.

    Subnets of one search space share most of their kernels, and code generation is what compiling a subnet spends
    its time on; a profile of fifty subnets takes a fraction of it with one `KernelObjects` for all.

    Parameters
    ----------
    target
        What code is generated for.
    machine
        The same target as kernel templates see it.
    """

    def __init__(self, target: tvm.target.Target, machine: Machine) -> None:
        self.target = target
        self.machine = machine
        self._objects: dict[Kernel, bytes] = {}

    def build(self, kernels: Iterable[Kernel]) -> None:
        """Compile those that are not compiled yet, on every CPU.

        Raises
        ------
        CompileError
            TVM can't generate code for a kernel.
        """
        missing = [kernel for kernel in dict.fromkeys(kernels) if kernel not in self._objects]
        self._objects.update(zip(missing, map_in_workers(self._compile, missing, _describe), strict=True))

    def get(self, workloads: Iterable[Workload], schedule_of: ScheduleOf) -> dict[str, bytes]:
        """Object files by the symbol of their kernel, one a distinct workload.

        Raises
        ------
        CompileError
            As `build`.
        """
        kernels = {workload: schedule_of(workload) for workload in workloads}
        self.build(kernels.items())
        return {workload.key: self._objects[workload, parameters] for workload, parameters in kernels.items()}

    def _compile(self, kernel: Kernel) -> bytes:
        workload, parameters = kernel
        body = TEMPLATES[workload.kind].prim_func(workload, parameters, self.machine)
        mod = tvm.IRModule({workload.key: body.with_attr("global_symbol", workload.key)})
        try:
            with tvm.transform.PassContext(opt_level=3, config=_UNCHECKED):
                built = tvm.tirx.build(mod, self.target)
        except (RuntimeError, ValueError, TypeError) as error:
            raise CompileError(f"TVM cannot build {_describe(kernel)} for {self.target}: {last_line(error)}") from error
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "kernel.o"
            built.write_to_file(str(path))
            return path.read_bytes()


def _describe(kernel: Kernel) -> str:
    workload, parameters = kernel
    return f"{workload.key} with {parameters}"


def last_line(error: Exception) -> str:
    """The last line of an error that says something.

    TVM puts the reason there, below its backtrace; below a linker's reason it puts the command, with every object file.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Command line:")]
    return lines[-1] if lines else type(error).__name__
