"""Evolutionary search for the Pareto front of accuracy against latency, over the predictors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ofa_tvm.errors import UsageError
from ofa_tvm.evolution.front import ParetoFront, check_budget
from ofa_tvm.predictors.protocol import Predictor
from ofa_tvm.space.search_space import SearchSpace


@dataclass(frozen=True, slots=True)
class EvolutionSettings:
    """How long and how widely to search.

    Population and parents' fraction are the paper's (Cai et al., "Once-for-All", section 3.4 and the
    official code). It mutates a gene with probability 0.1 for 500 generations; 0.03 comes closer to
    the exact front, which is known for additive predictors, in fewer.
    """

    population: int = 100
    generations: int = 150
    parent_fraction: float = 0.25
    mutation_probability: float = 0.03

    def __post_init__(self) -> None:
        if self.population < 4 or self.generations < 1:
            raise UsageError(
                f"population {self.population}, {self.generations} generations: use at least 4, and at least 1"
            )
        if not (0 < self.parent_fraction <= 1 and 0 < self.mutation_probability <= 1):
            raise UsageError(
                f"parents' fraction {self.parent_fraction}, mutation probability {self.mutation_probability}: "
                "use numbers above 0 and at most 1"
            )


def search(
    space: SearchSpace,
    accuracy_predictor: Predictor,
    latency_predictor: Predictor,
    budget_ms: float | None = None,
    seed: int = 0,
    settings: EvolutionSettings | None = None,
    on_generation: Callable[[int], None] | None = None,
) -> ParetoFront:
    """Search for the front; the same seed finds the same front.

    Parameters
    ----------
    budget_ms
        Concentrates the search on subnets predicted to meet it. The front still lists what was seen
        above it, where it is coarse, and is never empty: `ParetoFront.best_under` says whether
        any candidate meets the budget.
    on_generation
        Called with the number of each finished generation, from 1.

    Raises
    ------
    UsageError
        The budget is not positive, or a predictor is for another space.
    """
    if budget_ms is not None:
        check_budget(budget_ms)
    check_predictors(space, accuracy_predictor, latency_predictor)
    # pymoo takes most of a second to import, which commands that do not search need not wait for.
    from ofa_tvm.evolution import nsga2

    settings = settings or EvolutionSettings()
    problem = nsga2.SubnetProblem(space, accuracy_predictor, latency_predictor, budget_ms)
    algorithm = nsga2.algorithm(
        space, settings.population, settings.parent_fraction, settings.mutation_probability, seed
    )
    algorithm.setup(problem, termination=("n_gen", settings.generations), seed=seed)
    for generation in range(1, settings.generations + 1):
        if not algorithm.has_next():
            break
        algorithm.next()
        if on_generation:
            on_generation(generation)
    return ParetoFront.of(problem.seen.values())


def check_predictors(space: SearchSpace, accuracy_predictor: Predictor, latency_predictor: Predictor) -> None:
    """Make sure that both predictors are for this space.

    Raises
    ------
    UsageError
        One is not.
    """
    for name, predictor in (("accuracy", accuracy_predictor), ("latency", latency_predictor)):
        if predictor.space != space:
            raise UsageError(f"the {name} predictor is for another search space; make it anew for this supernet")
