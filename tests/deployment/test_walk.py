from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from ofa_tvm.compiler.tuning import TuningReport
from ofa_tvm.deployment.attempt import Attempt
from ofa_tvm.deployment.walk import WORTHWHILE_GAIN, find_deployment
from ofa_tvm.errors import InfeasibleBudgetError
from ofa_tvm.evolution.front import Candidate, ParetoFront
from ofa_tvm.lowering.lower import LoweredSubnet
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.training.records import AccuracyRecord

SPACE = SearchSpace(0.5, 10, tuple(range(32, 132, 4)))


def a_front(*points: tuple[float, float]) -> ParetoFront:
    """Candidates by predicted latency and accuracy, each with an architecture of its own."""
    return ParetoFront.of(
        Candidate(SPACE.smallest(resolution), accuracy, latency_ms)
        for resolution, (latency_ms, accuracy) in zip(SPACE.resolutions, points, strict=False)
    )


@dataclass
class ScriptedBuilder:
    """Measures every candidate at a factor of its prediction, the n-th one at the n-th factor."""

    factors: list[float]

    def build(self, candidate: Candidate) -> Attempt:
        factor = self.factors.pop(0)
        logits = np.zeros((1, 10), np.float32)
        return Attempt(
            candidate,
            AccuracyRecord(candidate.architecture, candidate.predicted_accuracy, 5000, 2000, "0" * 64),
            TuningReport(0, 0, 0, 0.0, 0.0),
            SimpleNamespace(median_ms=factor * candidate.predicted_latency_ms),
            LoweredSubnet(onnx.ModelProto(), logits, logits),
            Path("library.so"),
        )


def find(front: ParetoFront, budget_ms: float, factors: list[float], max_attempts: int = 5):
    said: list[str] = []
    return find_deployment(front, budget_ms, "board", ScriptedBuilder(factors), max_attempts, said.append)


def built(deployment) -> list[float]:
    return [attempt.candidate.predicted_latency_ms for attempt in deployment.attempts]


FRONT = a_front((1.0, 0.50), (2.0, 0.60), (3.0, 0.70), (4.0, 0.80), (5.0, 0.85), (6.0, 0.88))


def test_the_most_accurate_that_fits_is_built_once_if_it_fits():
    deployment = find(FRONT, 4.5, [1.0])
    assert built(deployment) == [4.0]
    assert deployment.chosen.candidate.predicted_accuracy == 0.80


def test_a_miss_walks_down_as_far_as_its_measurement_says():
    deployment = find(FRONT, 4.5, [1.6, 1.6])
    assert built(deployment) == [4.0, 2.0]
    assert deployment.chosen.measurement.median_ms == pytest.approx(3.2)


def test_room_left_by_tuning_walks_up_and_keeps_the_better_one():
    deployment = find(FRONT, 4.5, [0.8, 0.8])
    assert built(deployment) == [4.0, 5.0]
    assert deployment.chosen.candidate.predicted_latency_ms == 5.0


def test_a_step_up_that_misses_leaves_the_earlier_one_chosen():
    deployment = find(FRONT, 4.5, [0.8, 1.0])
    assert deployment.chosen.candidate.predicted_latency_ms == 4.0
    assert built(deployment) == [4.0, 5.0]


def test_a_gain_too_small_to_show_is_not_worth_another_build():
    front = a_front((4.0, 0.80), (4.2, 0.80 + WORTHWHILE_GAIN / 2))
    assert built(find(front, 4.1, [0.9])) == [4.0]


def test_it_stops_at_max_attempts():
    with pytest.raises(InfeasibleBudgetError, match="the fastest of the 2 tried"):
        find(FRONT, 6.5, [1.5, 3.0], max_attempts=2)


def test_if_nothing_is_measured_to_fit_the_error_names_the_fastest_tried():
    with pytest.raises(InfeasibleBudgetError, match=r"no subnet was measured to meet 1.5 ms on board.* took 3 ms"):
        find(FRONT, 1.5, [3.0])


def test_if_nothing_is_predicted_to_fit_nothing_is_built():
    with pytest.raises(InfeasibleBudgetError, match="the fastest is predicted at 1 ms"):
        find(FRONT, 0.5, [])
