"""Tuning: search the parameters of many kernels on the devices, until all searches are over or time is up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.kernel_libraries import Kernels
from ofa_tvm.compiler.templates import Parameters
from ofa_tvm.compiler.tuning_search import Searches, TuningSettings, can_teach
from ofa_tvm.compiler.tuning_status import expected_ms
from ofa_tvm.measurement.task_queue import CHUNK_JOBS
from ofa_tvm.reporting import Reporter, Silent
from ofa_tvm.space.workload import Workload

KERNELS_A_LIBRARY = 32

Measure = Callable[[Kernels, Callable[[int], None], float], None]


@dataclass(frozen=True, slots=True)
class TuningReport:
    """What tuning did.

    Attributes
    ----------
    candidates, measured
        How many candidates the kernels' searches need, and how many of these have a record now.
    before_ms, after_ms
        Sum of the kernels' latencies, counted as often as asked for, with the cost model's parameters and with those
        they are compiled with; of those kernels of which the first is known.
    """

    kernels: int
    candidates: int
    measured: int
    before_ms: float
    after_ms: float


class Tuner:
    """Searches the parameters of kernels, those first that take most of the time.

    A library holds one candidate of each of many kernels. A kernel that none like it has shown the way has to be
    screened with all its candidates, so those it can teach wait for it: then they need but a few. What was only
    screened is of no use, so some time is kept for measuring the best of it when the limit is near.

    Parameters
    ----------
    uses
        How often each kernel is called, by which its latency counts.

    Attributes
    ----------
    complete
        Kernels whose search is over.
    recorded
        Outcomes recorded so far: screenings, measurements and failures.
    """

    def __init__(
        self, bench: KernelBench, uses: Mapping[Workload, float], settings: TuningSettings | None = None
    ) -> None:
        self.uses = uses
        machine = bench.toolchain.machine
        self.searches = Searches(bench.store, machine, bench.rotations, settings or TuningSettings())
        self.complete = {workload for workload in uses if self.searches.is_complete(workload)}
        self.recorded = 0
        self._bench = bench
        self._exhaustive = settings is not None and settings.exhaustive
        latencies_ms = expected_ms(self.searches, uses)
        self._order = sorted(uses, key=lambda workload: -uses[workload] * latencies_ms[workload])
        self._waiting = [workload for workload in self._order if workload not in self.complete]
        self._active: list[Workload] = []
        self._longest_s = 0.0

    def run(self, deadline_s: float = float("inf"), on_done: Callable[[int], None] = lambda _count: None) -> None:
        """Search until all searches are over or `deadline_s` on `time.monotonic` has passed.

        Parameters
        ----------
        deadline_s
            Chunks of jobs under way are finished.
        on_done
            Called with the number of outcomes recorded since the last call.

        Raises
        ------
        CompileError, NumericalMismatchError, MeasurementError, DeviceError, OutputError
            As `KernelBench.measure`.
        """

        def count(number: int) -> None:
            self.recorded += number
            on_done(number)

        # A library to screen and one to measure are yet to come, and may take as long as the longest so far.
        while time.monotonic() < deadline_s - 2 * self._longest_s:
            self._fill_up()
            screened = self._next(self.searches.next_to_screen, self._active)
            finals = self._next(self.searches.next_to_measure, [w for w in self._active if w not in screened])
            if not screened and not finals:
                return
            if screened:
                self._clocked(self._bench.screen, screened, count, deadline_s)
            if len(finals) >= CHUNK_JOBS or not screened:
                self._clocked(self._bench.measure, finals, count, deadline_s)
            self._take_in()
            on_done(0)  # for who looks at `complete`
        self._conclude(count, deadline_s)
        on_done(0)

    def _conclude(self, on_done: Callable[[int], None], deadline_s: float) -> None:
        """Measure the best of what was only screened, as far as time allows, those first that have none measured."""
        while time.monotonic() < deadline_s:
            left = [w for w in self._order if self.searches.next_to_measure(w) is not None]
            left.sort(key=lambda w: self.searches.measured_ms(w) is not None)
            finals = self._next(self.searches.next_to_measure, left[:CHUNK_JOBS])
            if not finals:
                return
            self._clocked(self._bench.measure, finals, on_done, deadline_s)
            self._take_in()

    def _clocked(self, measure: Measure, kernels: Kernels, on_done: Callable[[int], None], deadline_s: float) -> None:
        start_s = time.monotonic()
        if start_s < deadline_s:
            measure(kernels, on_done, deadline_s)
            self._longest_s = max(self._longest_s, time.monotonic() - start_s)

    def _take_in(self) -> None:
        """Read what was recorded, and see which searches are over by it."""
        self.searches.refresh()
        self.complete.update(filter(self.searches.is_complete, self._active))
        self._active = [workload for workload in self._active if workload not in self.complete]

    def _next(self, choose: Callable[[Workload], Parameters | None], workloads: Iterable[Workload]) -> Kernels:
        """What to try next of each of these kernels."""
        chosen = {workload: choose(workload) for workload in workloads}
        return {workload: parameters for workload, parameters in chosen.items() if parameters is not None}

    def _fill_up(self) -> None:
        """Begin with further kernels, so that there is one library's worth to screen."""
        screening = sum(self.searches.next_to_screen(workload) is not None for workload in self._active)
        kept = []
        for workload in self._waiting:
            if screening >= KERNELS_A_LIBRARY or self._should_wait(workload):
                kept.append(workload)
            elif self.searches.is_complete(workload):  # by what others like it have shown since
                self.complete.add(workload)
            else:
                self._active.append(workload)
                screening += self.searches.next_to_screen(workload) is not None
        self._waiting = kept

    def _should_wait(self, workload: Workload) -> bool:
        """Whether a kernel under way can show this one the way, and none has yet."""
        if self._exhaustive or self.searches.has_teachers(workload):
            return False
        return any(can_teach(learner, workload) for learner in self._active)


def tune(
    bench: KernelBench,
    workloads: Iterable[Workload],
    minutes: float,
    reporter: Reporter | None = None,
) -> TuningReport:
    """Tune the kernels of a subnet.

    Parameters
    ----------
    workloads
        With repetition.
    minutes
        Time limit; 0 measures nothing.
    reporter
        Told how many kernels are tuned, after every few outcomes.

    Raises
    ------
    CompileError, NumericalMismatchError, MeasurementError, DeviceError, OutputError
        As `KernelBench.measure`.
    """
    counts = Counter(workloads)
    tuner = Tuner(bench, counts)
    if minutes > 0:
        _run(tuner, time.monotonic() + 60 * minutes, reporter or Silent())
    searches = tuner.searches
    modelled = {w: searches.latency_ms(w, searches.candidates(w)[0]) for w in counts}
    before_ms = {w: ms for w, ms in modelled.items() if ms is not None}
    return TuningReport(
        kernels=len(counts),
        candidates=sum(searches.tried(w) + searches.open(w) for w in counts),
        measured=sum(searches.tried(w) for w in counts),
        before_ms=sum(counts[w] * ms for w, ms in before_ms.items()),
        after_ms=sum(counts[w] * (searches.measured_ms(w) or ms) for w, ms in before_ms.items()),
    )


def _run(tuner: Tuner, deadline_s: float, reporter: Reporter) -> None:
    known = len(tuner.complete)
    with reporter.progress(len(tuner.uses), "tuning kernels", known) as bar:

        def on_done(_count: int) -> None:
            nonlocal known
            bar.advance(len(tuner.complete) - known)
            known = len(tuner.complete)

        tuner.run(deadline_s, on_done)
        on_done(0)
