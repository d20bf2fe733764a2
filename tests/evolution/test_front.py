from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_tvm.errors import InfeasibleBudgetError, UsageError
from ofa_tvm.evolution.front import Candidate, ParetoFront
from ofa_tvm.space.search_space import SearchSpace

SPACE = SearchSpace(0.5, 36, tuple(range(32, 65, 4)))


def candidate(latency_ms: float, accuracy: float, resolution: int = 32) -> Candidate:
    return Candidate(SPACE.smallest(resolution), accuracy, latency_ms)


def dominates(a: Candidate, b: Candidate) -> bool:
    no_worse = a.predicted_latency_ms <= b.predicted_latency_ms and a.predicted_accuracy >= b.predicted_accuracy
    return no_worse and (a.predicted_latency_ms, a.predicted_accuracy) != (b.predicted_latency_ms, b.predicted_accuracy)


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=30))
def test_front_is_what_nothing_dominates(points):
    candidates = [candidate(float(x), y / 10) for x, y in points]
    front = ParetoFront.of(candidates)
    expected = {
        (c.predicted_latency_ms, c.predicted_accuracy)
        for c in candidates
        if not any(dominates(d, c) for d in candidates)
    }
    found = [(c.predicted_latency_ms, c.predicted_accuracy) for c in front]
    assert set(found) == expected
    assert len(found) == len(expected)
    assert found == sorted(found)


def test_front_does_not_depend_on_the_order_of_candidates():
    candidates = [candidate(1.0, 0.5, r) for r in SPACE.resolutions] + [candidate(2.0, 0.6, r) for r in (64, 40)]
    shuffled = [candidates[i] for i in np.random.default_rng(0).permutation(len(candidates))]
    assert ParetoFront.of(candidates) == ParetoFront.of(shuffled)


def test_best_under_walks_down_from_the_most_accurate():
    front = ParetoFront.of([candidate(x, y) for x, y in ((1, 0.5), (2, 0.6), (3, 0.7), (4, 0.8))])
    assert [c.predicted_accuracy for c in front.best_under(3.0, "local")] == [0.7, 0.6, 0.5]


def test_infeasible_budget_says_what_is_feasible():
    front = ParetoFront.of([candidate(0.2134, 0.5), candidate(2.0, 0.6)])
    with pytest.raises(InfeasibleBudgetError) as caught:
        front.best_under(0.01, "local")
    message = str(caught.value)
    assert message.startswith(
        "no subnet meets 0.01 ms on local: the fastest is predicted at 0.213 ms (r32 d2,2,2,2,2 k3e3"
    )
    assert message.endswith("raise --latency, or profile again")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("budget_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_budgets_that_are_none(budget_ms):
    with pytest.raises(UsageError, match="positive"):
        ParetoFront.of([candidate(1.0, 0.5)]).best_under(budget_ms, "local")


def test_candidates_are_json():
    assert json.loads(json.dumps(candidate(1.0, 0.5).to_dict()))["predicted_latency_ms"] == 1.0
