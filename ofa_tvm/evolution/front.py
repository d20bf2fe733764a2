"""Pareto fronts of predicted accuracy against predicted latency, and the choice under a budget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ofa_tvm.errors import InfeasibleBudgetError, UsageError
from ofa_tvm.space.architecture import Architecture


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture and what the predictors say of it: accuracy as a fraction, latency in milliseconds."""

    architecture: Architecture
    predicted_accuracy: float
    predicted_latency_ms: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "architecture": self.architecture.to_dict(),
            "predicted_accuracy": self.predicted_accuracy,
            "predicted_latency_ms": self.predicted_latency_ms,
        }


@dataclass(frozen=True, slots=True)
class ParetoFront:
    """Candidates of which none is both slower and no more accurate than another, fastest first.

    Make one with `of`.
    """

    candidates: tuple[Candidate, ...]

    @classmethod
    def of(cls, candidates: Iterable[Candidate]) -> ParetoFront:
        """The non-dominated ones among the candidates; of equals the first in the architectures' order."""
        ranked = sorted(candidates, key=lambda c: (c.predicted_latency_ms, -c.predicted_accuracy, c.architecture))
        front: list[Candidate] = []
        for candidate in ranked:
            if not front or candidate.predicted_accuracy > front[-1].predicted_accuracy:
                front.append(candidate)
        return cls(tuple(front))

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    def __len__(self) -> int:
        return len(self.candidates)

    def best_under(self, budget_ms: float, target: str) -> tuple[Candidate, ...]:
        """Candidates predicted to meet a latency budget, the most accurate first.

        Whoever measures a miss goes on to the next one.

        Raises
        ------
        UsageError
            The budget is not a positive, finite time.
        InfeasibleBudgetError
            No candidate is predicted to meet it.
        """
        check_budget(budget_ms)
        feasible = tuple(c for c in reversed(self.candidates) if c.predicted_latency_ms <= budget_ms)
        if not feasible:
            raise infeasible(budget_ms, target, self.candidates[0])
        return feasible


def infeasible(budget_ms: float, target: str, fastest: Candidate) -> InfeasibleBudgetError:
    """The error where even the fastest subnet is predicted above the budget."""
    return InfeasibleBudgetError(
        f"no subnet meets {budget_ms:g} ms on {target}: the fastest is predicted at "
        f"{fastest.predicted_latency_ms:.3g} ms ({fastest.architecture}); "
        "raise --latency, or profile again"
    )


def check_budget(budget_ms: float) -> None:
    """Make sure that a latency budget is one.

    Raises
    ------
    UsageError
        It is not a positive, finite number of milliseconds.
    """
    if not (math.isfinite(budget_ms) and budget_ms > 0):
        raise UsageError(f"latency budget {budget_ms} ms: use a positive number of milliseconds")
