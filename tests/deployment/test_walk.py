from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import tvm

from ofa_tvm.compiler.tuning import TuningReport
from ofa_tvm.deployment.attempt import Attempt, FailedAttempt
from ofa_tvm.deployment.next_candidate import WORTHWHILE_GAIN
from ofa_tvm.deployment.walk import find_deployment
from ofa_tvm.errors import (
    CompileError,
    DeviceUnavailableError,
    InfeasibleBudgetError,
    MeasurementError,
    NumericalMismatchError,
)
from ofa_tvm.evolution.front import Candidate, ParetoFront
from ofa_tvm.lowering.lower import LoweredSubnet
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.training.records import AccuracyRecord

SPACE = SearchSpace(0.5, 10, tuple(range(32, 432, 4)))


def a_front(*points: tuple[float, float]) -> ParetoFront:
    """Candidates by predicted latency and accuracy, each with an architecture of its own."""
    return ParetoFront.of(
        Candidate(SPACE.smallest(resolution), accuracy, latency_ms)
        for resolution, (latency_ms, accuracy) in zip(SPACE.resolutions, points, strict=False)
    )


@dataclass
class ScriptedBuilder:
    """Measures the n-th candidate at the n-th factor of its prediction, with the drift beside it, or fails so.

    The slowest device takes `slowest` times as long as the one that measures.
    """

    script: list[float | tuple[float, float] | BaseException]
    slowest: float = 1.0

    def build(self, candidate: Candidate) -> Attempt:
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        factor, drift = step if isinstance(step, tuple) else (step, 0.0)
        logits = np.zeros((1, 10), np.float32)
        comparable_ms = factor * candidate.predicted_latency_ms
        measurement = SimpleNamespace(median_ms=comparable_ms / self.slowest, drift=drift, device="board0")
        return Attempt(
            candidate,
            AccuracyRecord(candidate.architecture, candidate.predicted_accuracy, 5000, 2000, "0" * 64),
            TuningReport(0, 0, 0, 0.0, 0.0),
            measurement,
            comparable_ms,
            comparable_ms * (1 + drift),
            LoweredSubnet(onnx.ModelProto(), tvm.IRModule(), logits, logits),
            Path("library.so"),
        )


@dataclass
class Walk:
    """A walk along a front, and what it said."""

    front: ParetoFront
    budget_ms: float
    latency_error: float = 0.01
    slowest: float = 1.0
    said: list[str] = field(default_factory=list)

    def find(self, *script, max_attempts: int = 5):
        builder = ScriptedBuilder(list(script), self.slowest)
        return find_deployment(
            self.front, self.budget_ms, "board", builder, max_attempts, self.latency_error, self.said.append
        )


def built(deployment) -> list[float]:
    return [attempt.candidate.predicted_latency_ms for attempt in deployment.attempts]


FRONT = a_front((1.0, 0.50), (2.0, 0.60), (3.0, 0.70), (4.0, 0.80), (5.0, 0.85), (6.0, 0.88))
# Candidates 0.5% apart.
FINE = a_front(*((round(1.005**step, 4), 0.5 + 0.006 * step) for step in range(60)))


def test_the_most_accurate_that_fits_is_built_once_if_it_fits():
    deployment = Walk(FRONT, 4.5).find(1.0)
    assert built(deployment) == [4.0]
    assert deployment.chosen.candidate.predicted_accuracy == 0.80


def test_a_miss_walks_down_as_far_as_its_measurement_says():
    deployment = Walk(FRONT, 4.5).find(1.6, 1.6)
    assert built(deployment) == [4.0, 2.0]
    assert deployment.chosen.measurement.median_ms == pytest.approx(3.2)


def test_room_left_by_tuning_walks_up_and_keeps_the_better_one():
    deployment = Walk(FRONT, 4.5).find(0.8, 0.8)
    assert built(deployment) == [4.0, 5.0]
    assert deployment.chosen.candidate.predicted_latency_ms == 5.0


def test_a_step_up_that_misses_leaves_the_earlier_one_chosen():
    deployment = Walk(FRONT, 4.5).find(0.8, 1.0)
    assert deployment.chosen.candidate.predicted_latency_ms == 4.0
    assert built(deployment) == [4.0, 5.0]


def test_a_gain_too_small_to_show_is_not_worth_another_build():
    front = a_front((4.0, 0.80), (4.2, 0.80 + WORTHWHILE_GAIN / 2))
    assert built(Walk(front, 4.1).find(0.9)) == [4.0]


def test_it_stops_at_max_attempts():
    with pytest.raises(InfeasibleBudgetError, match="the fastest of the 2 tried"):
        Walk(FRONT, 6.5).find(1.5, 3.0, max_attempts=2)


def test_a_next_one_is_announced_only_if_there_is_one():
    walk = Walk(FRONT, 4.5)
    with pytest.raises(InfeasibleBudgetError):
        walk.find(1.6, max_attempts=1)
    assert walk.said == []
    walk.find(1.6, 1.6, max_attempts=2)
    assert walk.said == ["6.4 ms misses the budget of 4.5 ms: next on the front"]


def test_if_nothing_is_measured_to_fit_the_error_names_the_fastest_tried():
    with pytest.raises(InfeasibleBudgetError, match=r"no subnet was measured to meet 1.5 ms on board.* took 3 ms"):
        Walk(FRONT, 1.5).find(3.0)


def test_if_nothing_is_predicted_to_fit_nothing_is_built():
    with pytest.raises(InfeasibleBudgetError, match="the fastest is predicted at 1 ms"):
        Walk(FRONT, 0.5).find()


# A margin for what the predictor does not know.


def test_near_misses_widen_the_step_until_one_fits():
    """Whatever is predicted up to 5% below the budget takes 1% more than the budget."""
    walk = Walk(FINE, 1.2)
    tried = [c.predicted_latency_ms for c in FINE if c.predicted_latency_ms <= 1.2]

    class OnePercentOver(ScriptedBuilder):
        def build(self, candidate: Candidate) -> Attempt:
            predicted_ms = candidate.predicted_latency_ms
            self.script = [1.2 * 1.01 / predicted_ms if predicted_ms > 1.2 * 0.95 else 1.0]
            return super().build(candidate)

    deployment = find_deployment(FINE, 1.2, "board", OnePercentOver([]), 4, 0.01, walk.said.append)
    assert built(deployment)[0] == tried[-1]
    assert deployment.chosen.meets(1.2)
    first, second = np.diff(np.log(built(deployment)))[:2]
    assert second < first < -0.01


def test_the_step_is_as_wide_as_the_predictor_is_inexact():
    exact, inexact = (built(Walk(FINE, 1.2, error).find(1.01, 1.01))[1] for error in (0.02, 0.06))
    assert exact <= 1.2 / 1.01 / 1.02
    assert inexact <= 1.2 / 1.01 / 1.06 < exact


def test_the_last_attempt_is_a_safe_one():
    second, last = (built(Walk(FINE, 1.2, 0.02).find(1.01, 1.01, max_attempts=most))[1] for most in (3, 2))
    assert last < second / 1.03


def test_the_fastest_is_measured_if_the_predictor_may_be_wrong_about_it():
    deployment = Walk(FRONT, 0.99, 0.02).find(0.98)
    assert built(deployment) == [1.0]
    with pytest.raises(InfeasibleBudgetError, match="the fastest of the 1 tried took 1 ms"):
        Walk(FRONT, 0.99, 0.02).find(1.0)
    with pytest.raises(InfeasibleBudgetError, match="the fastest is predicted at 1 ms"):
        Walk(FRONT, 0.97, 0.02).find()


def test_once_the_fastest_has_missed_no_slower_one_is_built():
    with pytest.raises(InfeasibleBudgetError, match="the fastest of the 1 tried"):
        Walk(FINE, 0.995, 0.05).find(1.0)


# A candidate that fails is one among others.


@pytest.mark.parametrize("error", [CompileError("no"), NumericalMismatchError("differs"), MeasurementError("late")])
def test_a_failure_after_one_that_met_the_budget_loses_nothing(error):
    walk = Walk(FRONT, 4.5)
    deployment = walk.find(0.8, error)
    assert deployment.chosen.candidate.predicted_latency_ms == 4.0
    assert deployment.attempts[1] == FailedAttempt(FRONT.candidates[4], error)
    assert walk.said[-1].endswith(f"failed: {error}")


def test_the_walk_goes_on_after_a_failure():
    deployment = Walk(FRONT, 4.5).find(CompileError("no"), 1.0)
    assert built(deployment) == [4.0, 3.0]
    assert deployment.chosen.candidate.predicted_latency_ms == 3.0


def test_if_all_fail_the_last_failure_is_named_and_max_attempts_holds():
    with pytest.raises(NumericalMismatchError, match=r"all 2 candidates failed on board, the last, r.*: differs"):
        Walk(FRONT, 4.5).find(CompileError("no"), NumericalMismatchError("differs"), 1.0, max_attempts=2)


def test_misses_and_failures_are_both_told():
    with pytest.raises(InfeasibleBudgetError, match=r"of the 1 tried took 6.4 ms .*, and 1 failed, the last: no;"):
        Walk(FRONT, 4.5).find(1.6, CompileError("no"), max_attempts=2)


def test_without_a_device_the_walk_ends_with_what_it_has():
    lost = DeviceUnavailableError("gone")
    deployment = Walk(FRONT, 4.5).find(0.8, lost)
    assert deployment.chosen.candidate.predicted_latency_ms == 4.0
    with pytest.raises(DeviceUnavailableError, match="gone"):
        Walk(FRONT, 4.5).find(1.6, lost)


def test_an_interruption_is_no_failure():
    with pytest.raises(KeyboardInterrupt):
        Walk(FRONT, 4.5).find(0.8, KeyboardInterrupt())


# A device that drifts.


def test_a_measurement_is_worth_no_more_than_its_drift():
    """4 ms with a drift of 40% may be 5.6 ms: the budget of 4.5 ms is not met, that of 6 ms would be."""
    walk = Walk(FRONT, 4.5)
    deployment = walk.find((1.0, 0.4), (1.0, 0.0))
    assert built(deployment) == [4.0, 3.0]
    assert deployment.chosen.candidate.predicted_latency_ms == 3.0
    assert walk.said[0].startswith("4 ms on a device that drifted by 40%, so at most 5.6 ms, misses the budget of 4.5")
    (only,) = Walk(a_front((4.0, 0.8)), 6.0).find((1.0, 0.4)).attempts
    assert only.meets(6.0)


def test_a_small_drift_counts_as_well():
    """The margin claimed is 1.25%: a drift of 1% is within it, one of 2% is not."""
    assert built(Walk(FRONT, 4.05).find((1.0, 0.01))) == [4.0]
    assert built(Walk(FRONT, 4.05).find((1.0, 0.02), (1.0, 0.0))) == [4.0, 3.0]


# Devices that differ.


def test_a_budget_is_met_if_it_is_met_on_the_slowest_device():
    """4.2 ms on one board are 6.3 ms on another, and 6 ms were predicted for that one."""
    walk = Walk(FRONT, 6.1, slowest=1.5)
    deployment = walk.find(1.05, 1.0)
    assert walk.said == [
        "4.2 ms on board0, 6.3 ms as on the slowest device of the records, misses the budget of 6.1 ms: "
        "next on the front"
    ]
    assert built(deployment) == [6.0, 5.0]
    assert deployment.chosen.measurement.median_ms == pytest.approx(5.0 / 1.5)


def test_a_faster_device_does_not_make_the_predictions_seem_too_high():
    assert built(Walk(FRONT, 4.5, slowest=1.5).find(1.0)) == [4.0]


def test_the_error_tells_of_the_drift():
    with pytest.raises(InfeasibleBudgetError, match=r"took 4 ms on a device that drifted by 40%, so at most 5.6 ms \("):
        Walk(FRONT, 4.5).find((1.0, 0.4), max_attempts=1)
