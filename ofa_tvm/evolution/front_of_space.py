"""From a profile and a supernet's accuracy predictor to the Pareto front: what searching and deploying begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.compiler.identity import identity_of
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.evolution.fastest import fastest
from ofa_tvm.evolution.front import Candidate, ParetoFront, check_budget, infeasible
from ofa_tvm.evolution.search import EvolutionSettings, check_predictors, search
from ofa_tvm.measurement.records import RecordStore
from ofa_tvm.predictors.accuracy_lookup import load_accuracy_predictor
from ofa_tvm.predictors.latency import LatencyPredictor
from ofa_tvm.predictors.protocol import Predictor
from ofa_tvm.profiling.refresh import refreshed, with_measurements
from ofa_tvm.profiling.subnet_history import SubnetHistory
from ofa_tvm.reporting import Reporter, Say
from ofa_tvm.supernet.metadata import SupernetFolder
from ofa_tvm.targets import Target


@dataclass(frozen=True, slots=True)
class Predictors:
    """What is known of a space's subnets on a target.

    Attributes
    ----------
    latency
        In milliseconds, with what was measured up to now.
    latency_error
        Mean relative error of held-out predictions, as a fraction.
    """

    target: str
    accuracy: Predictor
    latency: Predictor
    latency_error: float


def load_predictors(
    target: Target, supernet: SupernetFolder, runs: Path, records: Path, latency_predictor: Path, say: Say
) -> Predictors:
    """Load both predictors, the latency predictor brought up to date with the records.

    Parameters
    ----------
    runs
        Root of the user's results.
    records
        JSON Lines of the target's measurements.
    latency_predictor
        Folder that profile wrote.

    Raises
    ------
    InvalidRecordError
        A predictor is missing, damaged, or of other weights or settings of the target; or the records are damaged.
    UsageError
        A predictor is for another search space.
    """
    accuracy = load_accuracy_predictor(supernet, runs)
    toolchain = Toolchain.of(target)
    today = identity_of(target, toolchain)
    latency = LatencyPredictor.load(latency_predictor, today)
    space = supernet.metadata.space
    check_predictors(space, accuracy, latency)
    history = SubnetHistory(space, RecordStore(records, today), toolchain.machine)
    latency = refreshed(latency, history, say)
    nearby = with_measurements(latency, history, target.measurement.max_drift)
    return Predictors(target.name, accuracy, nearby, latency.held_out.mape)


def find_front(
    predictors: Predictors,
    budget_ms: float | None,
    seed: int,
    reporter: Reporter,
    reach: float = 0.0,
    settings: EvolutionSettings | None = None,
) -> ParetoFront:
    """Search the front, the fastest subnet among it; a budget out of reach is refused before.

    Parameters
    ----------
    reach
        By how much less than predicted the fastest subnet may turn out to take, as a fraction.

    Raises
    ------
    InfeasibleBudgetError
        The fastest subnet is predicted above the budget by more than `reach`.
    UsageError
        The budget is not positive.
    """
    accuracy, latency = predictors.accuracy, predictors.latency
    settings = settings or EvolutionSettings()
    architecture, latency_ms = fastest(latency.space, latency)
    quickest = Candidate(architecture, float(accuracy.predict([architecture])[0]), latency_ms)
    if budget_ms is not None:
        check_budget(budget_ms)
        if latency_ms > budget_ms * (1 + reach):
            raise infeasible(budget_ms, predictors.target, quickest)
    with reporter.progress(settings.generations, "search") as bar:
        front = search(latency.space, accuracy, latency, budget_ms, seed, settings, lambda _generation: bar.advance())
    return ParetoFront.of([*front, quickest])
