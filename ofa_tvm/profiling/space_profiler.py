"""What the latency predictor learns from: a space's kernels, and whole subnets, measured on the device."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.measurement.records import SubnetRecord
from ofa_tvm.measurement.speeds import Speeds
from ofa_tvm.profiling.subnet_builds import build_subnets
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.mobilenet_v3 import all_workloads, workloads
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.network import Supernet

_KERNELS_A_LIBRARY = 64
_SUBNETS_A_DEVICE = 8
_SUBNETS_A_BUILD = 32


def kernels_to_profile(space: SearchSpace, resolutions: Sequence[int]) -> list[Workload]:
    """Every kernel that subnets of these resolutions can need, each once."""
    return list(dict.fromkeys(itertools.chain.from_iterable(all_workloads(space, r) for r in resolutions)))


def subnets_to_profile(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """The smallest and the largest subnet, then random ones: `count` in all, always the same for a seed.

    Raises
    ------
    InvalidArchitectureError
        The space has fewer.
    """
    return space.sample_distinct(count, seed, first=[space.smallest(), space.largest()])


class SpaceProfiler:
    """Measures kernels and subnets that have no record yet; interrupted at any moment, it goes on from there."""

    def __init__(self, space: SearchSpace, bench: KernelBench, supernet: Supernet) -> None:
        self._space = space
        self._bench = bench
        self._supernet = supernet

    def kernels_left(self, kernels: Iterable[Workload]) -> list[Workload]:
        """Those without a measurement on the target."""
        schedules = self._schedules()
        return [w for w in kernels if not self._bench.measured(w, schedules(w))]

    def subnets_left(self, architectures: Iterable[Architecture]) -> list[Architecture]:
        """Those without a record, or measured with kernels that have been tuned since."""
        schedules = self._schedules()
        return [a for a in architectures if self._record(a, schedules) is None]

    def measure_kernels(self, kernels: Sequence[Workload], on_done: Callable[[int], None]) -> None:
        """Measure kernels with the best parameters known.

        Raises
        ------
        CompileError, MeasurementError, DeviceError, OutputError
            As `KernelBench.measure`.
        """
        left = self.kernels_left(kernels)
        schedules = self._schedules()
        for start in range(0, len(left), _KERNELS_A_LIBRARY):
            self._bench.measure({w: schedules(w) for w in left[start : start + _KERNELS_A_LIBRARY]}, on_done)

    def measure_subnets(self, architectures: Sequence[Architecture], on_done: Callable[[int], None]) -> None:
        """Compile subnets, check their outputs on the device, measure them.

        Raises
        ------
        NumericalMismatchError
            A subnet computes something else than PyTorch does, on two devices or the only one.
        CompileError, MeasurementError, DeviceError, OutputError
            As `KernelBench.measure`.
        """
        bench = self._bench
        left = self.subnets_left(architectures)
        schedules = self._schedules()
        while left:
            count = min(_SUBNETS_A_BUILD, _SUBNETS_A_DEVICE * max(1, bench.farm.connected))
            chunk, left = left[:count], left[count:]
            jobs = build_subnets(bench, self._supernet, chunk, schedules)
            batches = bench.farm.measure_in_batches(jobs, bench.reference, bench.target.measurement)
            with contextlib.closing(batches):
                for batch in batches:
                    bench.store.append_all(
                        [
                            SubnetRecord(
                                target=bench.target.name,
                                architecture=chunk[index].to_dict(),
                                kernels=schedules.digest(jobs[index].workloads),
                                outcome=outcome,
                            )
                            for index, outcome in batch
                        ]
                    )
                    on_done(len(batch))

    def measured_subnets(self, architectures: Iterable[Architecture]) -> dict[Architecture, float]:
        """Median latency in milliseconds of each subnet measured with today's kernels, as on the slowest device."""
        schedules = self._schedules()
        speeds = Speeds(record.measurement for record in self._bench.store)
        found = {}
        for architecture in architectures:
            record = self._record(architecture, schedules)
            if record is not None and record.measurement is not None:
                found[architecture] = speeds.comparable_ms(record.measurement)
        return found

    def measured_kernels(self) -> dict[Workload, float]:
        """Median latency in milliseconds of each kernel measured on the target, with its best parameters."""
        return self._schedules().latencies_ms

    def _schedules(self) -> Schedules:
        return Schedules(self._bench.store, self._bench.toolchain.machine)

    def _record(self, architecture: Architecture, schedules: Schedules) -> SubnetRecord | None:
        return self._bench.store.subnet(architecture.to_dict(), schedules.digest(workloads(self._space, architecture)))
