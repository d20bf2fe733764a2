"""A deployment up to its first candidate: all that needs no device."""

from __future__ import annotations

from dataclasses import dataclass

from ofa_tvm.bundle.destination import check_destination
from ofa_tvm.cpuinfo import usable_cpus
from ofa_tvm.deployment.next_candidate import next_candidate, reach
from ofa_tvm.deployment.order import Order
from ofa_tvm.evolution.front import Candidate, ParetoFront, infeasible
from ofa_tvm.evolution.front_of_space import find_front, load_predictors
from ofa_tvm.reporting import Reporter
from ofa_tvm.training.evaluation import Evaluator


@dataclass(frozen=True, slots=True)
class Prospect:
    """What the search holds out for an order.

    Attributes
    ----------
    latency_error
        Mean relative error of the latency predictor.
    first
        The candidate to be built first.
    """

    front: ParetoFront
    latency_error: float
    first: Candidate
    evaluator: Evaluator


def prospect(order: Order, reporter: Reporter) -> Prospect:
    """Check an order and search its front; nothing is written, and no device asked for.

    Raises
    ------
    InfeasibleBudgetError
        Even the fastest subnet is predicted above the budget, by more than the predictor's error.
    OutputError
        The bundle can't be written to its place.
    InvalidCheckpointError, InvalidRecordError, UsageError
        The supernet's weights, a predictor or the records are missing, damaged or of something else.
    """
    check_destination(order.directory, order.overwrite, runs_there=order.target.tvm_target == "host")
    # It reads the weights, which may be damaged: better known before the search. Nothing is measured while it works.
    evaluator = Evaluator(order.supernet, threads=usable_cpus())
    predictors = load_predictors(
        order.target, order.supernet, order.runs, order.records, order.latency_predictor, reporter.say
    )
    error = predictors.latency_error
    front = find_front(predictors, order.budget_ms, order.seed, reporter, reach(error))
    first = next_candidate(front, order.budget_ms, error, (), order.max_attempts)
    if first is None:
        raise infeasible(order.budget_ms, order.target.name, front.candidates[0])
    return Prospect(front, error, first, evaluator)
