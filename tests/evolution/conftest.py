from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from ofa_tvm.evolution.front import ParetoFront
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.encoding import one_hot
from ofa_tvm.space.search_space import NUM_STAGES, SearchSpace


@dataclass(frozen=True, eq=False)
class AdditivePredictor:
    """Each choice contributes a fixed amount, so the exact front can be computed."""

    space: SearchSpace
    weights: NDArray[np.float64]
    base: float

    def predict(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return one_hot(self.space, architectures).astype(np.float64) @ self.weights + self.base


MakePredictors = Callable[[SearchSpace, int], tuple[AdditivePredictor, AdditivePredictor]]


@pytest.fixture
def make_predictors() -> MakePredictors:
    """Accuracy and latency of a space: larger choices are slower and mostly more accurate."""

    def make(space: SearchSpace, seed: int) -> tuple[AdditivePredictor, AdditivePredictor]:
        rng = np.random.default_rng(seed)
        blocks = NUM_STAGES * space.depths[-1]
        size = np.concatenate(
            [
                np.tile(np.arange(len(space.kernel_sizes)), blocks) + 0.5,
                np.tile(np.arange(len(space.expand_ratios)), blocks) + 0.5,
                2.0 * np.arange(len(space.resolutions)) + 0.5,
            ]
        )
        accuracy = AdditivePredictor(space, rng.uniform(0, 0.008, len(size)) * np.sqrt(size), 0.4)
        return accuracy, AdditivePredictor(space, rng.uniform(0.01, 0.4, len(size)) * size, 0.1)

    return make


def non_dominated(points: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = points[np.lexsort((-points[:, 1], points[:, 0]))]
    best_before = np.maximum.accumulate(ordered[:, 1])
    return ordered[np.r_[True, ordered[1:, 1] > best_before[:-1]]]


@pytest.fixture
def exact_front() -> Callable[[AdditivePredictor, AdditivePredictor], NDArray[np.float64]]:
    """All non-dominated (latency, accuracy) of additive predictors, put together stage by stage."""

    def compute(accuracy: AdditivePredictor, latency: AdditivePredictor) -> NDArray[np.float64]:
        space = accuracy.space
        deepest, kernels, ratios = space.depths[-1], len(space.kernel_sizes), len(space.expand_ratios)
        blocks = NUM_STAGES * deepest
        both = np.stack([latency.weights, accuracy.weights], axis=1)
        of_kernel = both[: blocks * kernels].reshape(NUM_STAGES, deepest, kernels, 1, 2)
        of_ratio = both[blocks * kernels : blocks * (kernels + ratios)].reshape(NUM_STAGES, deepest, 1, ratios, 2)
        choices = (of_kernel + of_ratio).reshape(NUM_STAGES, deepest, -1, 2)
        front = non_dominated(both[blocks * (kernels + ratios) :] + np.array([latency.base, accuracy.base]))
        for stage in choices:
            at_depth, partial = [], np.zeros((1, 2))
            for position, block in enumerate(stage, start=1):
                partial = non_dominated((partial[:, None] + block).reshape(-1, 2))
                if position in space.depths:
                    at_depth.append(partial)
            front = non_dominated((front[:, None] + np.concatenate(at_depth)).reshape(-1, 2))
        return front

    return compute


@pytest.fixture
def hypervolume() -> Callable[[NDArray[np.float64], float], float]:
    """Area below a front of (latency, accuracy) rows, up to a latency, above accuracy 0.3."""

    def compute(front: NDArray[np.float64], until_ms: float) -> float:
        edges = np.minimum(np.append(front[:, 0], until_ms), until_ms)
        return float(np.sum(np.diff(edges) * (front[:, 1] - 0.3)))

    return compute


@pytest.fixture
def as_points() -> Callable[[ParetoFront], NDArray[np.float64]]:
    def convert(front: ParetoFront) -> NDArray[np.float64]:
        return np.array([(c.predicted_latency_ms, c.predicted_accuracy) for c in front])

    return convert
