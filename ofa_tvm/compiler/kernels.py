"""Object code of kernels, compiled once each and linked into every subnet that calls them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import tvm

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.errors import CompileError
from ofa_tvm.space.workload import Workload

ScheduleOf = Callable[[Workload], Parameters]


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
        self._objects: dict[tuple[Workload, Parameters], bytes] = {}

    def get(self, workloads: Iterable[Workload], schedule_of: ScheduleOf) -> dict[str, bytes]:
        """Object files by the symbol of their kernel, one a distinct workload.

        Raises
        ------
        CompileError
            TVM can't generate code for a kernel.
        """
        return {workload.key: self._get(workload, schedule_of(workload)) for workload in dict.fromkeys(workloads)}

    def _get(self, workload: Workload, parameters: Parameters) -> bytes:
        identity = (workload, parameters)
        if identity not in self._objects:
            self._objects[identity] = self._compile(workload, parameters)
        return self._objects[identity]

    def _compile(self, workload: Workload, parameters: Parameters) -> bytes:
        kernel = TEMPLATES[workload.kind].prim_func(workload, parameters, self.machine)
        mod = tvm.IRModule({workload.key: kernel.with_attr("global_symbol", workload.key)})
        try:
            built = tvm.tirx.build(mod, self.target)
        except (RuntimeError, ValueError, TypeError) as error:
            raise CompileError(
                f"TVM cannot build {workload.key} with {parameters} for {self.target}: {last_line(error)}"
            ) from error
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "kernel.o"
            built.write_to_file(str(path))
            return path.read_bytes()


def last_line(error: Exception) -> str:
    """The last line of an error that says something.

    TVM puts the reason there, below its backtrace; below a linker's reason it puts the command, with every object file.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Command line:")]
    return lines[-1] if lines else type(error).__name__
