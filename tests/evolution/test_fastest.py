from __future__ import annotations

import pytest

from ofa_tvm.errors import InfeasibleBudgetError, UsageError
from ofa_tvm.evolution.fastest import fastest
from ofa_tvm.evolution.front_of_space import Predictors, find_front
from ofa_tvm.evolution.search import EvolutionSettings
from ofa_tvm.reporting import Silent
from ofa_tvm.space.search_space import SearchSpace

SPACE = SearchSpace(0.5, 10, (32, 48, 64))
QUICK = EvolutionSettings(population=8, generations=2)


class Counting(Silent):
    """Counts what progress is shown of."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def progress(self, total, description, done=0):
        self.shown.append(description)
        return super().progress(total, description, done)


@pytest.mark.parametrize("seed", range(5))
def test_the_fastest_is_the_first_of_the_exact_front(make_predictors, exact_front, seed):
    accuracy, latency = make_predictors(SPACE, seed)
    architecture, latency_ms = fastest(SPACE, latency)
    assert latency_ms == pytest.approx(exact_front(accuracy, latency)[0, 0])
    assert latency.predict([architecture])[0] == latency_ms


def test_a_budget_out_of_reach_is_refused_before_the_search(make_predictors):
    predictors = Predictors("board", *make_predictors(SPACE, 1), 0.05)
    _, fastest_ms = fastest(SPACE, predictors.latency)
    reporter = Counting()
    with pytest.raises(InfeasibleBudgetError, match="on board: the fastest is predicted at"):
        find_front(predictors, 0.9 * fastest_ms, 0, reporter, 0.05, QUICK)
    assert reporter.shown == []
    front = find_front(predictors, 0.97 * fastest_ms, 0, reporter, 0.05, QUICK)
    assert front.candidates[0].predicted_latency_ms == fastest_ms
    assert reporter.shown == ["search"]


def test_a_budget_that_is_none_is_refused(make_predictors):
    predictors = Predictors("board", *make_predictors(SPACE, 1), 0.05)
    with pytest.raises(UsageError, match="-1"):
        find_front(predictors, -1, 0, Silent(), settings=QUICK)
