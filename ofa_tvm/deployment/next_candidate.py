"""Which candidate of a front to build next, by what those before measured."""

from __future__ import annotations

from collections.abc import Sequence

from ofa_tvm.deployment.attempt import AnyAttempt, Attempt
from ofa_tvm.evolution.front import Candidate, ParetoFront

# Another candidate is built for a gain of accuracy that held-out images can show, not for a smaller one.
WORTHWHILE_GAIN = 0.005

# A predictor that seems more exact than this was lucky, and so were its measurements.
LEAST_ERROR = 0.01


def reach(latency_error: float) -> float:
    """By how much a subnet may turn out to differ from its prediction, as a fraction."""
    return max(latency_error, LEAST_ERROR)


def next_candidate(
    front: ParetoFront, budget_ms: float, latency_error: float, tried: Sequence[AnyAttempt], left: int
) -> Candidate | None:
    """The most accurate candidate that should meet the budget, and be worth building; None if there is none.

    The first is the most accurate that is predicted to meet the budget. From then on predictions are scaled by what
    the last one measured over its own; and for each miss the candidate has to be predicted faster by the predictor's
    error once more, so that a row of near misses ends. With one attempt left and none that meets the budget, it is a
    safe one: faster by twice as many errors and one, by the worst of what was measured. Where nothing is that fast,
    the fastest is built if its prediction and the predictor's error leave it a chance.

    Parameters
    ----------
    latency_error
        Mean relative error of the latency predictor.
    tried
        In order. One that failed says nothing of latencies, and is not tried again.
    left
        How many may still be built.
    """
    measured = [attempt for attempt in tried if isinstance(attempt, Attempt)]
    misses = sum(not attempt.meets(budget_ms) for attempt in measured)
    best = best_of(measured, budget_ms)
    ratio, margin = (measured[-1].over_predicted if measured else 1.0), misses * reach(latency_error)
    if left == 1 and misses and best is None:
        ratio = max(attempt.over_predicted for attempt in measured)
        margin = (2 * misses + 1) * reach(latency_error)
    done = {attempt.candidate.architecture for attempt in tried}
    untried = [candidate for candidate in front if candidate.architecture not in done]
    limit_ms = budget_ms / (ratio * (1 + margin))
    fitting = [candidate for candidate in untried if candidate.predicted_latency_ms <= limit_ms]
    if best is not None:
        worthwhile = best.candidate.predicted_accuracy + WORTHWHILE_GAIN
        fitting = [candidate for candidate in fitting if candidate.predicted_accuracy >= worthwhile]
    if fitting:
        return fitting[-1]
    if best is not None or not untried:
        return None
    fastest_ms = untried[0].predicted_latency_ms
    if any(attempt.candidate.predicted_latency_ms <= fastest_ms for attempt in measured):
        return None  # what should be faster has missed
    return untried[0] if fastest_ms * ratio <= budget_ms * (1 + reach(latency_error)) else None


def best_of(attempts: Sequence[AnyAttempt], budget_ms: float) -> Attempt | None:
    """The attempt that is measured to be the most accurate among those measured to meet the budget."""
    fitting = [attempt for attempt in attempts if isinstance(attempt, Attempt) and attempt.meets(budget_ms)]
    return max(fitting, key=lambda attempt: attempt.accuracy.accuracy, default=None)
