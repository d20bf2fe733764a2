"""Tuning: search the parameters of many kernels on the devices, until all searches are over or time is up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.templates import Parameters
from ofa_tvm.compiler.tuning_search import Searches, SearchSettings, can_teach
from ofa_tvm.compiler.tuning_status import expected_ms
from ofa_tvm.measurement.task_queue import CHUNK_JOBS
from ofa_tvm.space.workload import Workload

KERNELS_A_LIBRARY = 32


@dataclass(frozen=True, slots=True)
class TuningReport:
    """What tuning did.

    Attributes
    ----------
    candidates, measured
        How many candidates the kernels' searches need, and how many of these have a record now.
    before_ms, after_ms
        Sum of the kernels' latencies, counted as often as asked for, with the cost model's parameters and with the
        best ones; of those kernels of which both are known.
    """

    kernels: int
    candidates: int
    measured: int
    before_ms: float
    after_ms: float


class Tuner:
    """Searches the parameters of kernels, those first that take most of the time.

    A library holds one candidate of each of many kernels. A kernel that none like it has shown the way has to be
    screened with all its candidates, so those it can teach wait for it: then they need but a few.

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
        self, bench: KernelBench, uses: Mapping[Workload, float], settings: SearchSettings | None = None
    ) -> None:
        self.uses = uses
        machine = bench.toolchain.machine
        self.searches = Searches(bench.store, bench.target.name, machine, bench.rotations, settings or SearchSettings())
        self.complete = {workload for workload in uses if self.searches.is_complete(workload)}
        self.recorded = 0
        self._bench = bench
        self._exhaustive = settings is not None and settings.exhaustive
        latencies_ms = expected_ms(self.searches, uses)
        order = sorted(uses, key=lambda workload: -uses[workload] * latencies_ms[workload])
        self._waiting = [workload for workload in order if workload not in self.complete]
        self._active: list[Workload] = []

    def run(self, deadline_s: float = float("inf"), on_done: Callable[[int], None] = lambda _count: None) -> None:
        """Search until all searches are over or `deadline_s` on `time.monotonic` has passed.

        Parameters
        ----------
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

        while time.monotonic() < deadline_s:
            self._fill_up()
            screened = self._next(self.searches.next_to_screen)
            finals = self._next(self.searches.next_to_measure, besides=screened)
            if not screened and not finals:
                return
            if screened:
                self._bench.screen(screened, count, deadline_s)
            if len(finals) >= CHUNK_JOBS or not screened:
                self._bench.measure(finals, count, deadline_s)
            self.searches.refresh()
            over = {workload for workload in self._active if self.searches.is_complete(workload)}
            self.complete |= over
            self._active = [workload for workload in self._active if workload not in over]
            on_done(0)  # for who looks at `complete`

    def _next(
        self, choose: Callable[[Workload], Parameters | None], besides: Mapping[Workload, Parameters] | None = None
    ) -> dict[Workload, Parameters]:
        """What to try next of each kernel under way."""
        chosen = {workload: choose(workload) for workload in self._active if workload not in (besides or {})}
        return {workload: parameters for workload, parameters in chosen.items() if parameters is not None}

    def _fill_up(self) -> None:
        """Begin with further kernels, so that there is one library's worth to screen."""
        screening = sum(self.searches.next_to_screen(workload) is not None for workload in self._active)
        kept = []
        for workload in self._waiting:
            if screening < KERNELS_A_LIBRARY and not self._should_wait(workload):
                self._active.append(workload)
                screening += 1
            else:
                kept.append(workload)
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
    on_done: Callable[[int], None] = lambda _count: None,
) -> TuningReport:
    """Tune the kernels of a subnet.

    Parameters
    ----------
    workloads
        With repetition.
    minutes
        Time limit; 0 measures nothing.

    Raises
    ------
    CompileError, NumericalMismatchError, MeasurementError, DeviceError, OutputError
        As `KernelBench.measure`.
    """
    counts = Counter(workloads)
    tuner = Tuner(bench, counts)
    if minutes > 0:
        tuner.run(time.monotonic() + 60 * minutes, on_done)
    searches = tuner.searches
    pairs = {w: (searches.latency_ms(w, searches.candidates(w)[0]), searches.latency_ms(w)) for w in counts}
    known = {w: (before, after) for w, (before, after) in pairs.items() if before is not None and after is not None}
    return TuningReport(
        kernels=len(counts),
        candidates=sum(searches.tried(w) + searches.open(w) for w in counts),
        measured=sum(searches.tried(w) for w in counts),
        before_ms=sum(counts[w] * before for w, (before, _) in known.items()),
        after_ms=sum(counts[w] * after for w, (_, after) in known.items()),
    )
