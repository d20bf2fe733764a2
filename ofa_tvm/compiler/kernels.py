"""Object code of kernels, compiled once each and linked into every subnet that calls them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import tvm

from ofa_tvm.compiler.kernel_cache import Kernel, KernelCache
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.object_code import build_kernels, object_file
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.compiler.workers import map_in_workers
from ofa_tvm.errors import CompileError, OutputError
from ofa_tvm.space.workload import Workload

ScheduleOf = Callable[[Workload], Parameters]

IN_MEMORY = 1 << 13
"""Kernels, some 12 KB each, that are kept in memory; tuning a whole space sees 100,000. The others are on disk, or
compiled again if they are asked for."""
TRIM_EVERY = 1000
"""Kernels compiled between two looks at the cache's size."""

log = logging.getLogger(__name__)


class KernelObjects:
    """Compiles kernels for one target and keeps their object code: in memory, and in a folder if it is given one.

    Subnets of one search space share most of their kernels, and code generation is what compiling a subnet spends
    its time on; a profile of fifty subnets takes a fraction of it with one `KernelObjects` for all.

    Parameters
    ----------
    target
        What code is generated for.
    machine
        The same target as kernel templates see it.
    folder
        Keeps object code for later processes (`KernelCache`). If it can't be written, the work goes on without.
    """

    def __init__(self, target: tvm.target.Target, machine: Machine, folder: Path | None = None) -> None:
        self.target = target
        self.machine = machine
        self._objects: dict[Kernel, bytes] = {}
        self._cache = None if folder is None else KernelCache(folder, target, machine)
        self._writes = self._cache is not None
        self._untrimmed = TRIM_EVERY  # the first that is compiled trims: processes may end before so many

    def build(self, kernels: Iterable[Kernel], may_kill: bool = False) -> None:
        """Compile those that are not compiled yet, on every CPU.

        Parameters
        ----------
        may_kill
            The kernels are candidates, of which one may kill the compiler.

        Raises
        ------
        CompileError
            TVM can't generate code for a kernel, or dies of it.
        """
        wanted = list(dict.fromkeys(kernels))
        if len(self._objects) > IN_MEMORY:
            self._objects = {kernel: self._objects[kernel] for kernel in wanted if kernel in self._objects}
        missing = [kernel for kernel in wanted if kernel not in self._objects and not self._load(kernel)]
        built = map_in_workers(self._compile_and_keep, missing, _describe, may_kill)
        self._objects.update((kernel, code) for kernel, (code, _) in zip(missing, built, strict=True))
        self._after_writing([refusal for _, refusal in built])

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

    def _load(self, kernel: Kernel) -> bool:
        code = None if self._cache is None else self._cache.get(kernel)
        if code is not None:
            self._objects[kernel] = code
        return code is not None

    def _compile_and_keep(self, kernel: Kernel) -> tuple[bytes, str | None]:
        """The object code, and why it could not be written to the cache. In a worker: nothing is lost if it stops."""
        code = self._compile(kernel)
        try:
            if self._cache is not None and self._writes:
                self._cache.put(kernel, code)
        except OutputError as error:
            return code, str(error)
        return code, None

    def _after_writing(self, refusals: list[str | None]) -> None:
        if self._cache is None or not self._writes or not refusals:
            return
        refusal = next(filter(None, refusals), None)
        if refusal is not None:
            self._writes = False
            log.warning("compiled kernels are not kept: %s", refusal)
        self._untrimmed += len(refusals)
        if self._untrimmed >= TRIM_EVERY:
            self._untrimmed = 0
            self._cache.trim()

    def _compile(self, kernel: Kernel) -> bytes:
        workload, parameters = kernel
        body = TEMPLATES[workload.kind].prim_func(workload, parameters, self.machine)
        mod = tvm.IRModule({workload.key: body.with_attr("global_symbol", workload.key)})
        try:
            return object_file(build_kernels(mod, self.target))
        except (RuntimeError, ValueError, TypeError) as error:
            raise CompileError(f"TVM cannot build {_describe(kernel)} for {self.target}: {last_line(error)}") from error


def _describe(kernel: Kernel) -> str:
    workload, parameters = kernel
    return f"{workload.key} with {parameters}"


def last_line(error: Exception) -> str:
    """The last line of an error that says something.

    TVM puts the reason there, below its backtrace; below a linker's reason it puts the command, with every object file.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Command line:")]
    return lines[-1] if lines else type(error).__name__
