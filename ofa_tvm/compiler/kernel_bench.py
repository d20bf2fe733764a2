"""Kernels built and measured on a farm of devices, every outcome recorded at once."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.linking import link_library
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.measurement.devices import open_farm
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.job import KernelJob
from ofa_tvm.measurement.records import KernelRecord, RecordStore
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import Target

REFERENCE = Workload("pointwise", 64, 64, 16, 16, activation="relu")
"""Measured before and after other jobs to see the device drift: some tens of microseconds on a large core."""


@contextlib.contextmanager
def open_bench(
    target: Target, records: Path, tracker: str | None = None, say: Callable[[str], None] = lambda _line: None
) -> Iterator[KernelBench]:
    """A bench on the target's devices, for as long as the context lasts; `say` is told what happens to them.

    Raises
    ------
    InvalidTargetError, CompileError
        As `Toolchain.of`.
    InvalidRecordError
        As `RecordStore`.
    UsageError, DeviceError
        As `open_farm`.
    """
    toolchain = Toolchain.of(target)
    store = RecordStore(records)
    objects = KernelObjects(toolchain.tvm_target, toolchain.machine)
    with open_farm(target, tracker, say) as farm, tempfile.TemporaryDirectory(prefix="ofa_tvm.") as folder:
        yield KernelBench(target, toolchain, objects, farm, store, Path(folder))


class KernelBench:
    """Measures kernels of one target on its devices.

    Parameters
    ----------
    folder
        For the libraries that are built; theirs to fill, yours to delete.
    """

    def __init__(
        self,
        target: Target,
        toolchain: Toolchain,
        objects: KernelObjects,
        farm: Farm,
        store: RecordStore,
        folder: Path,
    ) -> None:
        self.target = target
        self.toolchain = toolchain
        self.objects = objects
        self.farm = farm
        self.store = store
        self.folder = folder
        self._libraries = 0
        default = TEMPLATES[REFERENCE.kind].default(REFERENCE, toolchain.machine)
        (self.reference,) = self._jobs({REFERENCE: default})

    def measured(self, workload: Workload, parameters: Parameters) -> bool:
        """Whether this kernel has a record on the target, a failed one included."""
        return self.store.kernel(self.target.name, workload, parameters.to_dict()) is not None

    def measure(
        self,
        kernels: Mapping[Workload, Parameters],
        on_done: Callable[[int], None] = lambda _count: None,
        deadline_s: float = float("inf"),
    ) -> None:
        """Measure each kernel that has no record yet, as one library, and record it.

        Parameters
        ----------
        on_done
            Called with the number of kernels recorded since the last call.
        deadline_s
            On `time.monotonic`: measuring ends after the chunks during which it passes.

        Raises
        ------
        CompileError
            A kernel can't be built.
        MeasurementError, DeviceError
            The reference kernel fails, or there is no device left. A kernel that fails is a record.
        OutputError
            The records can't be written.
        """
        kernels = {workload: p for workload, p in kernels.items() if not self.measured(workload, p)}
        if not kernels:
            return
        jobs = self._jobs(kernels)
        outcomes = self.farm.measure_many(jobs, self.reference, self.target.measurement, deadline_s)
        with contextlib.closing(outcomes):
            for index, outcome in outcomes:
                workload = jobs[index].workload
                parameters = kernels[workload].to_dict()
                self.store.append(
                    KernelRecord(target=self.target.name, workload=workload, parameters=parameters, outcome=outcome)
                )
                on_done(1)

    def _jobs(self, kernels: Mapping[Workload, Parameters]) -> list[KernelJob]:
        """Build one library of these kernels; a job for each of them."""
        self._libraries += 1
        library = self.folder / f"kernels_{self._libraries}.so"
        if self.farm.needs_library:
            objects = self.objects.get(kernels, kernels.__getitem__)
            link_library(library, objects, self.toolchain.cross_compiler)
        machine = self.toolchain.machine
        return [
            KernelJob(
                library=library,
                function=workload.key,
                shapes=tuple(TEMPLATES[workload.kind].argument_shapes(workload, machine).values()),
                workload=workload,
            )
            for workload in kernels
        ]
