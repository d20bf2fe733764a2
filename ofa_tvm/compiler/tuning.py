"""Tuning: measure the candidates of kernel templates on the device, until all are known or time is up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.space.workload import Workload


@dataclass(frozen=True, slots=True)
class TuningReport:
    """What tuning did.

    Attributes
    ----------
    candidates, measured
        Kernels times their candidates, and how many of these have a record now.
    before_ms, after_ms
        Sum of the kernels' latencies, counted as often as asked for, with the best parameters known.
    """

    kernels: int
    candidates: int
    measured: int
    before_ms: float
    after_ms: float


def tune(
    bench: KernelBench,
    workloads: Iterable[Workload],
    minutes: float,
    on_done: Callable[[int], None] = lambda _count: None,
) -> TuningReport:
    """Measure candidates of all these kernels, the most promising of each first.

    The first round measures every kernel as the cost model would have it, the next one the second
    candidate of each, and so on; in a round, the kernels that take most of the time come first.

    Parameters
    ----------
    workloads
        Kernels of a subnet, with repetition.
    minutes
        Time limit; the first round is always finished. 0 measures nothing.

    Raises
    ------
    CompileError, MeasurementError, DeviceError, OutputError
        As `KernelBench.measure`.
    """
    counts = Counter(workloads)
    machine = bench.toolchain.machine
    candidates = {workload: TEMPLATES[workload.kind].candidates(workload, machine) for workload in counts}
    deadline_s = time.monotonic() + 60 * minutes
    if minutes > 0:
        bench.measure({workload: candidates[workload][0] for workload in counts}, on_done)
    before_ms = _total_ms(bench, counts)
    latencies_ms = Schedules(bench.store, bench.target.name, machine).latencies_ms
    order = sorted(counts, key=lambda workload: -counts[workload] * latencies_ms.get(workload, 0.0))
    for round_number in range(1, max(map(len, candidates.values()), default=0)):
        if time.monotonic() > deadline_s:
            break
        kernels = {w: candidates[w][round_number] for w in order if round_number < len(candidates[w])}
        bench.measure(kernels, on_done, deadline_s)
    return TuningReport(
        kernels=len(counts),
        candidates=sum(map(len, candidates.values())),
        measured=_count_measured(bench, candidates),
        before_ms=before_ms,
        after_ms=_total_ms(bench, counts),
    )


def remaining_candidates(bench: KernelBench, workloads: Iterable[Workload]) -> int:
    """How many candidates of these kernels have no record yet."""
    machine = bench.toolchain.machine
    candidates = {w: TEMPLATES[w.kind].candidates(w, machine) for w in set(workloads)}
    return sum(map(len, candidates.values())) - _count_measured(bench, candidates)


def _count_measured(bench: KernelBench, candidates: dict[Workload, list[Parameters]]) -> int:
    return sum(bench.measured(workload, p) for workload, parameters in candidates.items() for p in parameters)


def _total_ms(bench: KernelBench, counts: Counter[Workload]) -> float:
    """Sum over the kernels that were measured."""
    latencies_ms = Schedules(bench.store, bench.target.name, bench.toolchain.machine).latencies_ms
    return sum(latencies_ms.get(workload, 0.0) * count for workload, count in counts.items())
