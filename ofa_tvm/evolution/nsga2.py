"""The search as pymoo sees it: problem, operators, algorithm.

Imported only when a search runs, since pymoo takes most of a second to import.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.core.selection import Selection
from pymoo.operators.crossover.ux import UniformCrossover

from ofa_tvm.evolution.front import Candidate
from ofa_tvm.evolution.genomes import Genomes, canonical, decode_all, first_population
from ofa_tvm.predictors.protocol import Predictor
from ofa_tvm.space.encoding import genome_bounds
from ofa_tvm.space.search_space import SearchSpace

_FAST_ENOUGH = 0.5


class SubnetProblem(Problem):  # type: ignore[misc]
    """Minimise the negative accuracy and the logarithm of the latency, under a budget if there is one.

    The logarithm leaves dominance as it is and spreads the front evenly in relative latency.

    Attributes
    ----------
    seen
        Every candidate evaluated so far; the front of these is at least that of the last population.
    """

    def __init__(self, space: SearchSpace, accuracy: Predictor, latency: Predictor, budget_ms: float | None) -> None:
        self.space = space
        self.seen: dict[Any, Candidate] = {}
        self._accuracy = accuracy
        self._latency = latency
        self._budget_ms = budget_ms
        bounds = genome_bounds(space)
        super().__init__(
            n_var=len(bounds), n_obj=2, n_ieq_constr=int(budget_ms is not None), xl=0, xu=bounds - 1, vtype=int
        )

    def _evaluate(self, genomes: Genomes, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        architectures = decode_all(self.space, genomes)
        accuracies = self._accuracy.predict(architectures)
        latencies_ms = self._latency.predict(architectures)
        for architecture, accuracy, latency_ms in zip(architectures, accuracies, latencies_ms, strict=True):
            self.seen[architecture] = Candidate(architecture, float(accuracy), float(latency_ms))
        if self._budget_ms is None:
            out["F"] = np.column_stack([-accuracies, np.log(latencies_ms)])
        else:
            # What is fast enough gains nothing by being faster still, so the population stays near the budget.
            fast_enough_ms = _FAST_ENOUGH * self._budget_ms
            out["F"] = np.column_stack([-accuracies, np.log(np.maximum(latencies_ms, fast_enough_ms))])
            out["G"] = np.log(latencies_ms / self._budget_ms)[:, None]


class BestFraction(Selection):  # type: ignore[misc]
    """Parents come at random from the best part of the population, as in the paper's search."""

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self._fraction = fraction

    def _do(
        self, _problem: Any, pop: Any, n_select: int, n_parents: int, *args: Any, random_state: Any, **kwargs: Any
    ) -> NDArray[np.int64]:
        # pymoo ranks only what meets the budget; the rest is ordered by how far it misses.
        rank, crowding = (
            np.array([np.nan if value is None else value for value in pop.get(name)], dtype=np.float64)
            for name in ("rank", "crowding")
        )
        order = np.lexsort((-crowding, rank, pop.get("CV")[:, 0]))
        best = order[: max(2, round(self._fraction * len(pop)))]
        return np.asarray(random_state.choice(best, size=(n_select, n_parents)), dtype=np.int64)


class ResampleGenes(Mutation):  # type: ignore[misc]
    """Draws each gene anew with a given probability."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self._probability = probability

    def _do(self, problem: Any, genomes: Genomes, *args: Any, random_state: Any, **kwargs: Any) -> Genomes:
        drawn = random_state.integers(0, problem.xu + 1, size=genomes.shape)
        return np.where(random_state.random(genomes.shape) < self._probability, drawn, genomes)


class Canonicalize(Repair):  # type: ignore[misc]
    """Makes genomes canonical, so that pymoo finds duplicates by comparing them."""

    def _do(self, problem: Any, genomes: Genomes, **kwargs: Any) -> Genomes:
        return canonical(problem.space, genomes)


def algorithm(
    space: SearchSpace, population: int, parent_fraction: float, mutation_probability: float, seed: int
) -> NSGA2:
    """NSGA-II with the operators above."""
    return NSGA2(
        pop_size=population,
        sampling=first_population(space, population, seed),
        selection=BestFraction(parent_fraction),
        crossover=UniformCrossover(prob=0.5),
        mutation=ResampleGenes(mutation_probability),
        repair=Canonicalize(),
        eliminate_duplicates=True,
    )
