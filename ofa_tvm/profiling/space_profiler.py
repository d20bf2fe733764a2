"""What the latency predictor learns from: a space's kernels, and whole subnets, measured on the device."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.errors import MeasurementError
from ofa_tvm.measurement.job import SubnetJob
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure, Outcome
from ofa_tvm.profiling.subnet_builds import build_subnets
from ofa_tvm.profiling.subnet_history import SubnetHistory
from ofa_tvm.reporting import Say
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.mobilenet_v3 import all_workloads
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.network import Supernet

_KERNELS_A_LIBRARY = 64
_SUBNETS_A_DEVICE = 8
_SUBNETS_A_BUILD = 32
_SUSPICIOUS = 3  # so many failures without a success, and it is not the subnets


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
    """Measures kernels and subnets that have no record yet; interrupted at any moment, it goes on from there.

    Parameters
    ----------
    say
        Told, a line at a time, which subnets fail.
    """

    def __init__(
        self, space: SearchSpace, bench: KernelBench, supernet: Supernet, say: Say = lambda _line: None
    ) -> None:
        self._space = space
        self._bench = bench
        self._supernet = supernet
        self._say = say

    @property
    def history(self) -> SubnetHistory:
        """The subnets measured with today's kernels."""
        return SubnetHistory(self._space, self._bench.store, self._bench.toolchain.machine)

    def kernels_left(self, kernels: Iterable[Workload]) -> list[Workload]:
        """Those without a measurement on the target."""
        schedules = self.history.schedules
        return [w for w in kernels if not self._bench.measured(w, schedules(w))]

    def subnets_left(self, architectures: Iterable[Architecture]) -> list[Architecture]:
        """Those without a record, measured with kernels that have been tuned since, or to be tried once more."""
        history = self.history
        return [a for a in architectures if not history.is_settled(a)]

    def measure_kernels(self, kernels: Sequence[Workload], on_done: Callable[[int], None]) -> None:
        """Measure kernels with the best parameters known.

        Raises
        ------
        CompileError, MeasurementError, DeviceError, OutputError
            As `KernelBench.measure`.
        """
        left = self.kernels_left(kernels)
        schedules = self.history.schedules
        for start in range(0, len(left), _KERNELS_A_LIBRARY):
            self._bench.measure({w: schedules(w) for w in left[start : start + _KERNELS_A_LIBRARY]}, on_done)

    def measure_subnets(self, count: int, seed: int, on_done: Callable[[int], None]) -> dict[Architecture, Measurement]:
        """Measure so many subnets of a seed, as compiled and found to compute what PyTorch does.

        One that fails is a record, and the seed's next subnet takes its place.

        Parameters
        ----------
        on_done
            Called with the number of subnets measured since the last call.

        Returns
        -------
        dict
            The seed's subnets that are measured; fewer than `count` where as many failed, or the space has no more.

        Raises
        ------
        MeasurementError
            None of several works, so it is not they who fail; nothing is recorded of them.
        DeviceError, NumericalMismatchError, OutputError
            As `KernelBench.measure`.
        """
        held: dict[Architecture, MeasurementFailure] = {}
        tried: set[Architecture] = set()
        most = min(2 * count, self._space.size)
        wanted = min(count, most)
        while True:
            chosen = subnets_to_profile(self._space, wanted, seed)
            left = [a for a in self.subnets_left(chosen) if a not in tried]
            tried.update(left)
            for outcomes in self._outcomes(left):
                self._take(outcomes, held)
                on_done(sum(isinstance(outcome, Measurement) for outcome in outcomes.values()))
            measured = self.history.measured()
            found = {a: measured[a] for a in chosen if a in measured}
            missing = min(wanted + count - len(found), most) - wanted
            if missing <= 0:
                self.history.record(held)
                return found
            wanted += missing

    def subnets_measured(self, count: int, seed: int) -> int:
        """How many of so many subnets of a seed are measured already."""
        measured = self.history.measured()
        return sum(a in measured for a in subnets_to_profile(self._space, min(count, self._space.size), seed))

    def _outcomes(self, architectures: Sequence[Architecture]) -> Iterator[dict[Architecture, Outcome]]:
        """Batch after batch, those that could not be built first."""
        bench, left = self._bench, architectures
        while left:
            count = min(_SUBNETS_A_BUILD, _SUBNETS_A_DEVICE * max(1, bench.farm.connected))
            chunk, left = left[:count], left[count:]
            built = build_subnets(bench, self._supernet, chunk, self.history.schedules)
            failed = {a: b for a, b in zip(chunk, built, strict=True) if isinstance(b, MeasurementFailure)}
            jobs = {a: b for a, b in zip(chunk, built, strict=True) if isinstance(b, SubnetJob)}
            if failed:
                yield dict(failed)
            batches = bench.farm.measure_in_batches(list(jobs.values()), bench.reference, bench.target.measurement)
            with contextlib.closing(batches):
                for batch in batches:
                    yield {list(jobs)[index]: outcome for index, outcome in batch}

    def _take(self, outcomes: dict[Architecture, Outcome], held: dict[Architecture, MeasurementFailure]) -> None:
        """Record what came out; failures are held back until something works, for it may be all that does not."""
        failures = {a: outcome for a, outcome in outcomes.items() if isinstance(outcome, MeasurementFailure)}
        for architecture, failure in failures.items():
            self._say(f"subnet {architecture} is left out, and another takes its place: {failure.error}")
        if len(failures) == len(outcomes) and not self.history.measured():
            held.update(failures)
            if len(held) >= _SUSPICIOUS:
                raise MeasurementError(
                    f"none of the first {len(held)} subnets can be built and measured, the last: "
                    f"{list(held.values())[-1].error}; the same command goes on once it is mended"
                )
            return
        self.history.record(held | outcomes)
        held.clear()

    def measured_kernels(self) -> dict[Workload, float]:
        """Median latency in milliseconds of each kernel measured on the target, with its best parameters."""
        return self.history.schedules.latencies_ms
