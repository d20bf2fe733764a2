"""Libraries of kernels, for devices to measure."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.compiler.cold_weights import Rotations
from ofa_tvm.compiler.kernel_check import REFERENCE
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.linking import link_library
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.errors import CompileError, OutputError
from ofa_tvm.measurement.job import KernelJob, Rotation
from ofa_tvm.refusals import refusal
from ofa_tvm.space.workload import Workload

Kernels = Mapping[Workload, Parameters]


@dataclass(frozen=True, slots=True)
class KernelLibrary:
    """A library of kernels.

    Attributes
    ----------
    jobs
        One for each of them, in order.
    reference
        The reference kernel in this library: where not even that works, the others are not to blame.
    """

    path: Path
    jobs: list[KernelJob]
    reference: KernelJob


class KernelLibraries:
    """Builds libraries for one target.

    Parameters
    ----------
    folder
        Where they are written.
    needed
        Whether the devices need any; otherwise there are only jobs.
    """

    def __init__(
        self, toolchain: Toolchain, objects: KernelObjects, rotations: Rotations, folder: Path, needed: bool
    ) -> None:
        self._toolchain = toolchain
        self._objects = objects
        self._rotations = rotations
        self._folder = folder
        self._needed = needed
        self._count = 0
        self._reference = {REFERENCE: TEMPLATES[REFERENCE.kind].default(REFERENCE, toolchain.machine)}

    def compile(self, kernels: Kernels) -> dict[Workload, str]:
        """Compile kernels; of those that can't be, why not."""
        if not self._needed:
            return {}
        with contextlib.suppress(CompileError):
            self._objects.build(kernels.items(), may_kill=True)
            return {}
        reasons: dict[Workload, str] = {}
        for kernel in kernels.items():
            try:
                self._objects.build([kernel], may_kill=True)
            except CompileError as error:
                reasons[kernel[0]] = str(error)
        return reasons

    def link(self, kernels: Kernels) -> KernelLibrary:
        """A new library of kernels that can be compiled; yours to delete.

        Raises
        ------
        CompileError
            It can't be linked.
        OutputError
            It can't be written.
        """
        self._count += 1
        path = self._folder / f"kernels_{self._count}.so"
        rotations = {w: rotation for w in kernels if w != REFERENCE and (rotation := self._rotations.of(w)) is not None}
        if self._needed:
            self._write(path, {**self._reference, **kernels}, [*rotations])
        jobs = [self._job(path, workload, rotations.get(workload)) for workload in kernels]
        return KernelLibrary(path, jobs, self._job(path, REFERENCE))

    def _write(self, path: Path, kernels: Kernels, rotations: Sequence[Workload]) -> None:
        objects = self._objects.get(kernels, kernels.__getitem__) | self._rotations.objects(rotations)
        try:
            link_library(path, objects, self._toolchain.cross_compiler)
        except OutputError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            raise OutputError(f"cannot write {path}: {refusal(error.__cause__, path, 'TMPDIR')}") from error

    def _job(self, path: Path, workload: Workload, rotation: Rotation | None = None) -> KernelJob:
        template = TEMPLATES[workload.kind]
        return KernelJob(
            library=path,
            function=workload.key,
            shapes=tuple(template.argument_shapes(workload, self._toolchain.machine).values()),
            workload=workload,
            outputs=template.outputs(workload),
            rotation=rotation,
        )
