from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from ofa_tvm.errors import InfeasibleBudgetError, UsageError
from ofa_tvm.evolution.front import Candidate, ParetoFront
from ofa_tvm.evolution.search import EvolutionSettings, search
from ofa_tvm.space.architecture import Architecture, Block
from ofa_tvm.space.search_space import SearchSpace

REDUCED = SearchSpace(0.5, 36, (32, 64), depths=(2,), kernel_sizes=(3,), expand_ratios=(3, 4))
FULL = SearchSpace(0.5, 36, tuple(range(32, 65, 4)))
QUICK = EvolutionSettings(population=40, generations=15)


def enumerate_space(space: SearchSpace) -> list[Architecture]:
    stages = [
        stage
        for depth in space.depths
        for stage in itertools.product(
            [Block(k, e) for k in space.kernel_sizes for e in space.expand_ratios], repeat=depth
        )
    ]
    return [Architecture(r, chosen) for r in space.resolutions for chosen in itertools.product(stages, repeat=5)]


def brute_force_front(space, accuracy, latency) -> ParetoFront:
    architectures = enumerate_space(space)
    predictions = zip(architectures, accuracy.predict(architectures), latency.predict(architectures), strict=True)
    return ParetoFront.of(Candidate(a, float(x), float(y)) for a, x, y in predictions)


@pytest.mark.parametrize("seed", range(3))
def test_front_of_a_reduced_space_against_brute_force(make_predictors, hypervolume, as_points, seed):
    accuracy, latency = make_predictors(REDUCED, seed)
    truth = as_points(brute_force_front(REDUCED, accuracy, latency))
    found = as_points(search(REDUCED, accuracy, latency, seed=seed, settings=QUICK))
    until_ms = latency.predict([REDUCED.largest()])[0]
    assert len(enumerate_space(REDUCED)) == 2048
    assert 0.95 <= hypervolume(found, until_ms) / hypervolume(truth, until_ms) <= 1 + 1e-12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_best_under_a_budget_is_the_true_best(make_predictors, seed, share):
    accuracy, latency = make_predictors(REDUCED, seed)
    fastest, slowest = latency.predict([REDUCED.smallest(), REDUCED.largest()])
    budget_ms = float(fastest + share * (slowest - fastest))
    truth = brute_force_front(REDUCED, accuracy, latency).best_under(budget_ms, "null")[0]
    settings = EvolutionSettings(population=40, generations=30)
    found = search(REDUCED, accuracy, latency, budget_ms, seed, settings).best_under(budget_ms, "null")[0]
    assert found.predicted_accuracy == pytest.approx(truth.predicted_accuracy, abs=1e-12)
    assert found.predicted_latency_ms <= budget_ms


def test_exact_front_of_the_oracle_is_brute_force(make_predictors, exact_front, as_points):
    accuracy, latency = make_predictors(REDUCED, 0)
    truth = as_points(brute_force_front(REDUCED, accuracy, latency))
    exact = exact_front(accuracy, latency)
    assert len(exact) == len(truth)
    np.testing.assert_allclose(exact, truth, rtol=1e-12)


def test_whole_space_against_the_exact_front(make_predictors, exact_front, hypervolume, as_points):
    accuracy, latency = make_predictors(FULL, 0)
    truth = exact_front(accuracy, latency)
    slowest = latency.predict([FULL.largest()])[0]
    front = search(FULL, accuracy, latency)
    assert hypervolume(as_points(front), slowest) >= 0.98 * hypervolume(truth, slowest)
    budget_ms = 0.4 * float(slowest)
    best = truth[truth[:, 0] <= budget_ms][-1, 1]
    concentrated = search(FULL, accuracy, latency, budget_ms).best_under(budget_ms, "null")[0]
    assert best - 0.003 <= concentrated.predicted_accuracy <= best + 1e-12


def test_same_seed_same_front(make_predictors):
    predictors = make_predictors(FULL, 1)
    first, second, other = (search(FULL, *predictors, seed=seed, settings=QUICK) for seed in (7, 7, 8))
    assert first == second
    assert first != other


def test_global_random_state_plays_no_part(make_predictors):
    predictors = make_predictors(FULL, 1)
    np.random.seed(1)
    first = search(FULL, *predictors, seed=7, settings=QUICK)
    np.random.seed(2)
    assert search(FULL, *predictors, seed=7, settings=QUICK) == first


def test_predictions_of_the_front_are_the_predictors(make_predictors):
    accuracy, latency = make_predictors(FULL, 1)
    front = search(FULL, accuracy, latency, settings=QUICK)
    architectures = [c.architecture for c in front]
    np.testing.assert_allclose([c.predicted_accuracy for c in front], accuracy.predict(architectures))
    np.testing.assert_allclose([c.predicted_latency_ms for c in front], latency.predict(architectures))


def test_impossible_budget_ends_and_names_the_fastest(make_predictors):
    accuracy, latency = make_predictors(REDUCED, 0)
    front = search(REDUCED, accuracy, latency, budget_ms=0.01, settings=QUICK)
    fastest = brute_force_front(REDUCED, accuracy, latency).candidates[0]
    with pytest.raises(InfeasibleBudgetError, match=str(fastest.architecture).split()[0]) as caught:
        front.best_under(0.01, "null")
    assert f"{fastest.predicted_latency_ms:.3g} ms ({fastest.architecture})" in str(caught.value)


def test_generous_budget_gives_the_most_accurate(make_predictors):
    accuracy, latency = make_predictors(REDUCED, 0)
    best = brute_force_front(REDUCED, accuracy, latency).candidates[-1]
    found = search(REDUCED, accuracy, latency, budget_ms=1e6, settings=QUICK).best_under(1e6, "null")[0]
    assert found.predicted_accuracy == pytest.approx(best.predicted_accuracy, abs=1e-12)


def test_a_space_smaller_than_the_population_ends(make_predictors, as_points):
    tiny = SearchSpace(0.5, 36, (32, 64), depths=(2,), kernel_sizes=(3,), expand_ratios=(3,))
    accuracy, latency = make_predictors(tiny, 0)
    found = as_points(search(tiny, accuracy, latency))
    np.testing.assert_allclose(found, as_points(brute_force_front(tiny, accuracy, latency)))


def test_progress_counts_generations(make_predictors):
    seen: list[int] = []
    settings = EvolutionSettings(population=20, generations=4)
    search(FULL, *make_predictors(FULL, 0), settings=settings, on_generation=seen.append)
    assert seen == [1, 2, 3, 4]


def test_predictors_of_another_space_are_refused(make_predictors):
    accuracy, latency = make_predictors(FULL, 0)
    with pytest.raises(UsageError, match="accuracy predictor is for another"):
        search(REDUCED, accuracy, latency)


@pytest.mark.parametrize("budget_ms", [0.0, -2.0, float("nan")])
def test_budgets_that_are_none(make_predictors, budget_ms):
    with pytest.raises(UsageError, match="budget"):
        search(REDUCED, *make_predictors(REDUCED, 0), budget_ms=budget_ms)


@pytest.mark.parametrize(
    "wrong", [{"population": 3}, {"generations": 0}, {"parent_fraction": 0.0}, {"mutation_probability": 1.5}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(UsageError):
        EvolutionSettings(**wrong)


def test_importing_the_search_does_not_import_pymoo():
    command = "import sys, ofa_tvm.evolution.search; sys.exit('pymoo' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)
