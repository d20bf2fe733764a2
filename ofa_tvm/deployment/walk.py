"""Along the Pareto front until the most accurate subnet that is measured to meet the budget is found."""

from __future__ import annotations

from dataclasses import dataclass

from ofa_tvm.deployment.attempt import Attempt, CandidateBuilder
from ofa_tvm.errors import InfeasibleBudgetError
from ofa_tvm.evolution.front import Candidate, ParetoFront
from ofa_tvm.reporting import Say

# Another candidate is built for a gain of accuracy that held-out images can show, not for a smaller one.
WORTHWHILE_GAIN = 0.005


@dataclass(frozen=True, slots=True)
class Deployment:
    """What was found.

    Attributes
    ----------
    chosen
        The attempt to deliver.
    attempts
        All of them in order, `chosen` included.
    """

    chosen: Attempt
    attempts: tuple[Attempt, ...]


def find_deployment(
    front: ParetoFront, budget_ms: float, target: str, builder: CandidateBuilder, max_attempts: int, say: Say
) -> Deployment:
    """Build and measure candidates, and choose the most accurate one that meets the budget.

    The first is the most accurate that is predicted to meet it. What it measures over what was
    predicted then scales all predictions: down the front if it missed the budget, up the front if
    tuning made room for one that is more accurate by `WORTHWHILE_GAIN`; until nothing better fits, or
    `max_attempts` are built.

    Raises
    ------
    InfeasibleBudgetError
        No candidate is predicted, or none was measured to meet the budget.
    StageError, DeviceError, OutputError
        As `CandidateBuilder.build`.
    """
    attempts: list[Attempt] = []
    candidate: Candidate | None = front.best_under(budget_ms, target)[0]
    while candidate is not None and len(attempts) < max_attempts:
        attempt = builder.build(candidate)
        attempts.append(attempt)
        candidate = _next(front, budget_ms, attempts)
        if candidate is not None:
            verb = "misses" if attempt.measurement.median_ms > budget_ms else "leaves room in"
            say(f"{attempt.measurement.median_ms:.4g} ms {verb} the budget of {budget_ms:g} ms: next on the front")
    chosen = _best(attempts, budget_ms)
    if chosen is None:
        fastest = min(attempts, key=lambda attempt: attempt.measurement.median_ms)
        raise InfeasibleBudgetError(
            f"no subnet was measured to meet {budget_ms:g} ms on {target}: the fastest of the {len(attempts)} tried "
            f"took {fastest.measurement.median_ms:.4g} ms ({fastest.candidate.architecture}), predicted at "
            f"{fastest.candidate.predicted_latency_ms:.4g} ms; raise --latency or --max-attempts, or profile again"
        )
    return Deployment(chosen, tuple(attempts))


def _next(front: ParetoFront, budget_ms: float, attempts: list[Attempt]) -> Candidate | None:
    """The most accurate candidate that should fit by the last attempt's measurement, and beat what fits already."""
    limit_ms = budget_ms / attempts[-1].measured_over_predicted
    tried = {attempt.candidate.architecture for attempt in attempts}
    best = _best(attempts, budget_ms)
    for candidate in reversed(front.candidates):
        if best is not None and candidate.predicted_accuracy < best.candidate.predicted_accuracy + WORTHWHILE_GAIN:
            return None
        if candidate.predicted_latency_ms <= limit_ms and candidate.architecture not in tried:
            return candidate
    return None


def _best(attempts: list[Attempt], budget_ms: float) -> Attempt | None:
    fitting = [attempt for attempt in attempts if attempt.measurement.median_ms <= budget_ms]
    return max(fitting, key=lambda attempt: attempt.accuracy.accuracy, default=None)
