from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from ofa_tvm.predictors.latency_nearby import NearbyLatencies
from ofa_tvm.space.architecture import Architecture, Block
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.space.search_space import SearchSpace


@dataclass(frozen=True)
class Arithmetic:
    """A millisecond a million multiply-accumulates."""

    space: SearchSpace

    def predict(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([sum(w.macs for w in workloads(self.space, a)) / 1e6 for a in architectures])


def with_another_kernel(architecture: Architecture) -> Architecture:
    """A neighbour: the first block has another kernel size."""
    first, *others = architecture.stages
    changed = (Block(8 - first[0].kernel_size if first[0].kernel_size != 5 else 3, first[0].expand_ratio), *first[1:])
    return Architecture(architecture.resolution, (changed, *others[:4]))


def test_what_was_measured_is_its_own_prediction(space: SearchSpace, draw: Callable[..., list[Architecture]]) -> None:
    plain, architectures = Arithmetic(space), draw(30, 1)
    measured_ms = {a: 3.0 + n for n, a in enumerate(architectures[:20])}
    predicted = NearbyLatencies(plain, measured_ms).predict(architectures)
    assert list(predicted[:20]) == list(measured_ms.values())


def test_an_error_counts_for_neighbours_and_not_for_others(
    space: SearchSpace, draw: Callable[..., list[Architecture]]
) -> None:
    plain, (missed, *far) = Arithmetic(space), draw(30, 2)
    near = with_another_kernel(missed)
    corrected = NearbyLatencies(plain, {missed: 1.1 * plain.predict([missed])[0]})
    assert 1.05 < corrected.predict([near])[0] / plain.predict([near])[0] < 1.1
    assert corrected.predict(far) == pytest.approx(plain.predict(far), rel=0.01)


def test_without_measurements_it_is_the_predictor(space: SearchSpace, draw: Callable[..., list[Architecture]]) -> None:
    plain, architectures = Arithmetic(space), draw(5, 3)
    assert list(NearbyLatencies(plain, {}).predict(architectures)) == list(plain.predict(architectures))
    assert len(NearbyLatencies(plain, {}).predict([])) == 0
