"""The profile of a search space on a device: its latency predictor, and what it was learnt from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.errors import MeasurementError
from ofa_tvm.predictors.latency import MIN_SUBNETS, LatencyPredictor
from ofa_tvm.predictors.metrics import Metrics
from ofa_tvm.profiling.space_profiler import SpaceProfiler, kernels_to_profile
from ofa_tvm.reporting import Reporter
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.metadata import SupernetFolder
from ofa_tvm.targets import Target


@dataclass(frozen=True, slots=True)
class ProfilePlan:
    """What to measure, where, and where to keep it.

    Attributes
    ----------
    records
        JSON Lines of all measurements on the target.
    latency_predictor
        Folder of the predictor; replaced.
    resolutions
        Kernels of these are measured.
    subnets
        Whole subnets to measure, those of a seed.
    kernels
        Every kernel that subnets of the resolutions can need.
    """

    target: Target
    supernet: SupernetFolder
    records: Path
    latency_predictor: Path
    resolutions: tuple[int, ...]
    subnets: int
    seed: int
    kernels: tuple[Workload, ...] = field(init=False)

    def __post_init__(self) -> None:
        kernels = kernels_to_profile(self.supernet.metadata.space, self.resolutions)
        object.__setattr__(self, "kernels", tuple(kernels))


@dataclass(frozen=True, slots=True)
class Profile:
    """What was measured and learnt.

    Attributes
    ----------
    kernels, kernels_failed
        Of those asked for.
    kernel_coverage
        Fraction of the space's kernels that were measured.
    subnets
        Those the predictor was fitted to: the seed's, and whatever else was measured with the same kernels.
    held_out
        Errors and rank correlations of predictions, on subnets left out of fitting.
    """

    target: str
    device: str
    emulated: bool
    kernels: int
    kernels_failed: int
    kernel_coverage: float
    subnets: int
    fastest_ms: float
    slowest_ms: float
    held_out: Metrics
    latency_predictor: Path

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "held_out": self.held_out.to_dict(), "latency_predictor": str(self.latency_predictor)}


def profile_space(plan: ProfilePlan, tracker: str | None, reporter: Reporter) -> Profile:
    """Measure what has no record yet, and fit the latency predictor.

    Parameters
    ----------
    tracker
        Address of the RPC tracker; None for the target's own.

    Raises
    ------
    MeasurementError
        Fewer subnets can be built and measured than a predictor needs.
    UsageError, StageError, DeviceError
        As `open_bench`, `KernelBench.measure` and `SpaceProfiler.measure_subnets`.
    """
    space = plan.supernet.metadata.space
    network = load_supernet(plan.supernet)
    with open_bench(plan.target, plan.records, tracker, reporter.say) as bench:
        reporter.say(f"device: {bench.farm.name}")
        profiler = SpaceProfiler(space, bench, network, reporter.say)
        done = len(plan.kernels) - len(profiler.kernels_left(plan.kernels))
        with reporter.progress(len(plan.kernels), "kernels", done) as bar:
            profiler.measure_kernels(plan.kernels, bar.advance)
        with reporter.progress(plan.subnets, "subnets", profiler.subnets_measured(plan.subnets, plan.seed)) as bar:
            profiler.measure_subnets(plan.subnets, plan.seed, bar.advance)
        measured_ms = profiler.history.latencies_ms()
        latencies_ms = profiler.measured_kernels()
        settings = bench.store.target.settings
        device, emulated = bench.farm.name, plan.target.emulated or bench.farm.emulated
    if len(measured_ms) < MIN_SUBNETS:
        raise MeasurementError(
            f"only {len(measured_ms)} of {plan.subnets} subnets work on {plan.target.name}, where a latency predictor "
            f"needs {MIN_SUBNETS}; mend what the others failed of, or give more --subnets"
        )
    predictor = LatencyPredictor.fit(space, list(measured_ms), list(measured_ms.values()), latencies_ms, plan.seed)
    predictor.save(plan.latency_predictor, {"target": plan.target.name, "device": device}, settings)
    return Profile(
        target=plan.target.name,
        device=device,
        emulated=emulated,
        kernels=sum(kernel in latencies_ms for kernel in plan.kernels),
        kernels_failed=sum(kernel not in latencies_ms for kernel in plan.kernels),
        kernel_coverage=predictor.kernel_coverage,
        subnets=len(measured_ms),
        fastest_ms=min(measured_ms.values()),
        slowest_ms=max(measured_ms.values()),
        held_out=predictor.held_out,
        latency_predictor=plan.latency_predictor,
    )
