"""Kernels built and measured on a farm of devices, every outcome recorded at once."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path

import tvm

from ofa_tvm.compiler.cold_weights import Rotations
from ofa_tvm.compiler.kernel_check import REFERENCE as REFERENCE
from ofa_tvm.compiler.kernel_check import Float32Array, reference_inputs, reference_outputs
from ofa_tvm.compiler.kernel_libraries import KernelLibraries, KernelLibrary, Kernels
from ofa_tvm.compiler.kernels import KernelObjects, ScheduleOf
from ofa_tvm.compiler.library import CompiledSubnet, compile_subnet
from ofa_tvm.compiler.templates import Parameters
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.errors import MeasurementError
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.job import KernelJob, RunsKernels
from ofa_tvm.measurement.protocol import Measurement, Outcome, not_built
from ofa_tvm.measurement.records import KernelRecord, RecordStore
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import Target

_PROBLEMS_KEPT = 32


class KernelBench:
    """Measures kernels of one target on its devices.

    Parameters
    ----------
    searched
        Folder of MetaSchedule's database, for operators without a kernel template; it need not be there.
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
        searched: Path,
        folder: Path,
    ) -> None:
        self.target = target
        self.toolchain = toolchain
        self.objects = objects
        self.farm = farm
        self.store = store
        self.searched = searched
        self.folder = folder
        self.rotations = Rotations.on(target, toolchain)
        self._libraries = KernelLibraries(toolchain, objects, self.rotations, folder, farm.needs_library)
        self._problem = functools.lru_cache(maxsize=_PROBLEMS_KEPT)(self._pose)
        self.reference = self._libraries.link({}).reference
        if farm.needs_library:
            farm.require(self.prove)

    def prove(self, device: RunsKernels) -> float:
        """The relative error of the reference kernel on a device.

        Raises
        ------
        NumericalMismatchError
            The device computes wrong numbers.
        MeasurementError, DeviceError
            As `Device.run_kernel`.
        """
        return self._prove(self.reference, device)

    def compile(self, imported: tvm.IRModule, schedule_of: ScheduleOf) -> CompiledSubnet:
        """Compile an imported subnet for the target, with kernels that were compiled and operators that were searched.

        Raises
        ------
        CompileError
            As `compile_subnet`.
        """
        toolchain = self.toolchain
        return compile_subnet(
            imported,
            toolchain.tvm_target,
            toolchain.machine,
            schedule_of,
            toolchain.cross_compiler,
            self.objects,
            self.searched,
        )

    def measured(self, workload: Workload, parameters: Parameters) -> bool:
        """Whether this kernel has a record on the target, a failed one included."""
        cold = self.rotations.of(workload) is not None
        return self.store.kernel(workload, parameters.to_dict(), cold_weights=cold) is not None

    def measure(
        self,
        kernels: Kernels,
        on_done: Callable[[int], None] = lambda _count: None,
        deadline_s: float = float("inf"),
    ) -> None:
        """Measure each kernel that has no record yet by the target's whole protocol, as one library, and record it.

        A kernel is measured only where its outputs are those of the reference in numpy; otherwise it has failed.

        Parameters
        ----------
        on_done
            Called with the number of kernels recorded since the last call.
        deadline_s
            On `time.monotonic`: measuring ends after the chunks during which it passes. None is begun if building
            took until then.

        Raises
        ------
        CompileError
            The library can't be linked.
        NumericalMismatchError, MeasurementError, DeviceError
            The only device computes wrong numbers, or fails at the reference kernel, or there is none left. A kernel
            that fails, or can't be built, is a record.
        OutputError
            The records can't be written.
        """
        kernels = {workload: p for workload, p in kernels.items() if not self.measured(workload, p)}
        self._measure(kernels, False, on_done, deadline_s)

    def screen(
        self,
        kernels: Kernels,
        on_done: Callable[[int], None] = lambda _count: None,
        deadline_s: float = float("inf"),
    ) -> None:
        """Measure each kernel with a few samples only, and record it as screened; otherwise as `measure`.

        Outputs are not compared, and kernels that were screened before are measured again.
        """
        self._measure(kernels, True, on_done, deadline_s)

    def _measure(self, kernels: Kernels, screening: bool, on_done: Callable[[int], None], deadline_s: float) -> None:
        reasons = self._libraries.compile(kernels)
        if reasons:
            self._record(kernels, {w: not_built(why) for w, why in reasons.items()}, screening)
            on_done(len(reasons))
            kernels = {workload: p for workload, p in kernels.items() if workload not in reasons}
        if not kernels or time.monotonic() >= deadline_s:
            return
        library = self._libraries.link(kernels)
        try:
            with contextlib.closing(self._outcomes(library, screening, deadline_s)) as batches:
                for outcomes in batches:
                    self._record(kernels, outcomes, screening)
                    on_done(len(outcomes))
        finally:
            library.path.unlink(missing_ok=True)

    def _outcomes(
        self, library: KernelLibrary, screening: bool, deadline_s: float
    ) -> Generator[dict[Workload, Outcome], None, None]:
        """Chunk after chunk; failures wait for the first kernel that works, for it may be the library that does not."""
        jobs = library.jobs
        if self.farm.needs_library and not screening:
            jobs = [replace(job, proof=functools.partial(self._prove, job)) for job in jobs]
        protocol = self.target.measurement.screening() if screening else self.target.measurement
        works = False
        failures: dict[Workload, Outcome] = {}
        with contextlib.closing(self.farm.measure_in_batches(jobs, self.reference, protocol, deadline_s)) as batches:
            for batch in batches:
                outcomes = failures | {jobs[index].workload: outcome for index, outcome in batch}
                works = works or any(isinstance(outcome, Measurement) for outcome in outcomes.values())
                failures = {} if works else outcomes
                if works:
                    yield outcomes
        if failures:
            self._check(library)
            yield failures

    def _check(self, library: KernelLibrary) -> None:
        """Whether a library works of which no kernel does."""
        if not self.farm.needs_library or any(job.workload == REFERENCE for job in library.jobs):
            return
        try:
            self.farm.measure(library.reference, self.reference, self.target.measurement.screening())
        except MeasurementError as error:
            raise MeasurementError(
                f"no library of {len(library.jobs)} kernels works on {self.farm.name}, while the reference kernel does "
                f"alone: is a disk or the memory there full? {error}; the same command goes on once it is mended"
            ) from error

    def _record(self, kernels: Kernels, outcomes: Mapping[Workload, Outcome], screening: bool) -> None:
        self.store.append_all(
            [
                KernelRecord(
                    target=self.target.name,
                    workload=workload,
                    parameters=kernels[workload].to_dict(),
                    screening=screening,
                    cold_weights=self.rotations.of(workload) is not None,
                    outcome=outcome,
                )
                for workload, outcome in outcomes.items()
            ]
        )

    def _prove(self, job: KernelJob, device: RunsKernels) -> float:
        """A kernel's relative error on a device against numpy."""
        inputs, expected = self._problem(job.workload)
        what = "reference kernel" if job.workload == REFERENCE else job.workload.key
        outputs = zip(expected, device.run_kernel(job, inputs), strict=True)
        return max(check_outputs(f"{what} on {device.name}", wanted, output) for wanted, output in outputs)

    def _pose(self, workload: Workload) -> tuple[tuple[Float32Array, ...], tuple[Float32Array, ...]]:
        inputs = reference_inputs(workload, self.toolchain.machine)
        return inputs, reference_outputs(workload, self.toolchain.machine, inputs)
