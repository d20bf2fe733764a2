"""Along the Pareto front until the most accurate subnet that is measured to meet the budget is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ofa_tvm.deployment.attempt import AnyAttempt, Attempt, FailedAttempt
from ofa_tvm.deployment.next_candidate import best_of, next_candidate
from ofa_tvm.errors import DeviceError, InfeasibleBudgetError, OfaTvmError, StageError
from ofa_tvm.evolution.front import Candidate, ParetoFront, infeasible
from ofa_tvm.reporting import Say


class Builder(Protocol):
    """What builds and measures a candidate (`ofa_tvm.deployment.candidate_builder.CandidateBuilder`)."""

    def build(self, candidate: Candidate) -> Attempt:
        """The candidate, built and measured."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What was found.

    Attributes
    ----------
    chosen
        The attempt to deliver.
    attempts
        All of them in order, `chosen` and those that failed included.
    """

    chosen: Attempt
    attempts: tuple[AnyAttempt, ...]


def find_deployment(
    front: ParetoFront,
    budget_ms: float,
    target: str,
    builder: Builder,
    max_attempts: int,
    latency_error: float,
    say: Say,
) -> Deployment:
    """Build and measure candidates, and choose the most accurate one that meets the budget.

    `next_candidate` says which; until nothing better fits, or `max_attempts` were tried. One that fails counts as
    tried, and the walk goes on; without any device it ends, with what it has.

    Raises
    ------
    InfeasibleBudgetError
        No candidate is predicted, or none was measured to meet the budget.
    StageError
        All candidates failed, the last one of this.
    DeviceError
        There is no device any more, and nothing that meets the budget.
    OutputError
        As `CandidateBuilder.build`.
    """
    tried: list[AnyAttempt] = []
    while len(tried) < max_attempts:
        candidate = next_candidate(front, budget_ms, latency_error, tried, max_attempts - len(tried))
        if candidate is None:
            break
        if tried and isinstance(tried[-1], Attempt):
            say(_why_another(tried[-1], budget_ms))
        try:
            tried.append(builder.build(candidate))
        except StageError as error:
            tried.append(FailedAttempt(candidate, error))
            say(f"candidate {candidate.architecture} failed: {error}")
        except DeviceError as error:
            tried.append(FailedAttempt(candidate, error))
            break
    chosen = best_of(tried, budget_ms)
    if chosen is None:
        raise _why_none(front, tried, budget_ms, target)
    if isinstance(tried[-1], FailedAttempt) and isinstance(tried[-1].error, DeviceError):
        say(f"no device is left, so this is the end: {tried[-1].error}")
    return Deployment(chosen, tuple(tried))


def _why_another(last: Attempt, budget_ms: float) -> str:
    if last.meets(budget_ms):
        return f"{last.measurement.median_ms:.4g} ms leaves room in the budget of {budget_ms:g} ms: next on the front"
    return f"{_measured(last)} misses the budget of {budget_ms:g} ms: next on the front"


def _measured(attempt: Attempt) -> str:
    """What was measured, and what that is worth if it is worth less."""
    measurement = attempt.measurement
    told = f"{measurement.median_ms:.4g} ms"
    if attempt.comparable_ms > measurement.median_ms:
        told += f" on {measurement.device}, {attempt.comparable_ms:.4g} ms as on the slowest device of the records,"
    if f"{attempt.bound_ms:.4g}" == f"{attempt.comparable_ms:.4g}":
        return told
    return f"{told} on a device that drifted by {100 * measurement.drift:.2g}%, so at most {attempt.bound_ms:.4g} ms,"


def _why_none(front: ParetoFront, tried: Sequence[AnyAttempt], budget_ms: float, target: str) -> OfaTvmError:
    """What to say if nothing meets the budget."""
    measured = [attempt for attempt in tried if isinstance(attempt, Attempt)]
    failed = [attempt for attempt in tried if isinstance(attempt, FailedAttempt)]
    if failed and isinstance(failed[-1].error, DeviceError):
        return failed[-1].error
    if not tried:
        return infeasible(budget_ms, target, front.candidates[0])
    if not measured:
        last = failed[-1]
        told = f"all {len(failed)} candidates failed on {target}, the last, {last.candidate.architecture}"
        if len(failed) == 1:
            told = f"the only candidate failed on {target}, {last.candidate.architecture}"
        return type(last.error)(f"{told}: {last.error}")
    fastest = min(measured, key=lambda attempt: attempt.bound_ms)
    failures = f", and {len(failed)} failed, the last: {failed[-1].error}" if failed else ""
    return InfeasibleBudgetError(
        f"no subnet was measured to meet {budget_ms:g} ms on {target}: the fastest of the {len(measured)} tried "
        f"took {_measured(fastest).rstrip(',')} ({fastest.candidate.architecture}), predicted at "
        f"{fastest.candidate.predicted_latency_ms:.4g} ms{failures}; raise --latency or --max-attempts, "
        "or profile again"
    )
