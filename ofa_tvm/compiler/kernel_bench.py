"""Kernels built and measured on a farm of devices, every outcome recorded at once."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ofa_tvm.compiler.kernel_check import REFERENCE as REFERENCE
from ofa_tvm.compiler.kernel_check import reference_inputs, reference_output
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.linking import link_library
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.devices import open_farm
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.job import KernelJob
from ofa_tvm.measurement.records import KernelRecord, RecordStore
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import Target


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
        if farm.needs_library:
            farm.require(self._prove)

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
        NumericalMismatchError, MeasurementError, DeviceError
            The only device computes wrong numbers, or fails at the reference kernel, or there is none left. A kernel
            that fails is a record.
        OutputError
            The records can't be written.
        """
        kernels = {workload: p for workload, p in kernels.items() if not self.measured(workload, p)}
        if not kernels:
            return
        jobs = self._jobs(kernels)
        batches = self.farm.measure_in_batches(jobs, self.reference, self.target.measurement, deadline_s)
        with contextlib.closing(batches):
            for batch in batches:
                workloads = [jobs[index].workload for index, _ in batch]
                self.store.append_all(
                    [
                        KernelRecord(
                            target=self.target.name,
                            workload=workload,
                            parameters=kernels[workload].to_dict(),
                            outcome=outcome,
                        )
                        for workload, (_, outcome) in zip(workloads, batch, strict=True)
                    ]
                )
                on_done(len(batch))

    def _prove(self, device: Device) -> None:
        """That the reference kernel computes on a device what numpy does."""
        inputs = reference_inputs(self.toolchain.machine)
        output = device.run_kernel(self.reference, inputs)
        check_outputs(f"reference kernel on {device.name}", reference_output(inputs), output)

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
