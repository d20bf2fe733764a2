from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ofa_tvm.deployment.latency import MEASUREMENTS, measure_steadily
from ofa_tvm.errors import DeviceUnavailableError, MeasurementError, OfaTvmError


class Drifting:
    """A bench whose device drifts by what is said, or fails."""

    def __init__(self, *drifts: float | Exception) -> None:
        self.left = list(drifts)
        self.farm = self
        self.reference: Any = None
        self.target = SimpleNamespace(measurement=SimpleNamespace(max_drift=0.1))

    def measure(self, *_arguments: object) -> Any:
        drift = self.left.pop(0)
        if isinstance(drift, Exception):
            raise drift
        return SimpleNamespace(drift=drift)


def drifts(bench: Any) -> list[float]:
    return [measurement.drift for measurement in measure_steadily(bench, None)]


def test_a_steady_device_measures_once() -> None:
    assert drifts(Drifting(0.1)) == [0.1]


def test_a_drifting_one_measures_again_until_it_is_steady() -> None:
    assert drifts(Drifting(0.4, 0.02)) == [0.4, 0.02]


def test_it_ends_with_the_steadiest_if_none_is_steady() -> None:
    bench = Drifting(0.2, 0.5, 0.3, 0.0)
    assert drifts(bench) == [0.5, 0.3, 0.2]
    assert len(bench.left) == 4 - MEASUREMENTS


@pytest.mark.parametrize("kind", [MeasurementError, DeviceUnavailableError])
def test_what_was_measured_outlives_a_later_failure(kind: type[OfaTvmError]) -> None:
    assert drifts(Drifting(0.4, kind("late"))) == [0.4]
    with pytest.raises(kind):
        drifts(Drifting(kind("at once")))
