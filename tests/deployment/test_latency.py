from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ofa_tvm.deployment.latency import MEASUREMENTS, bound_ms, measure_steadily
from ofa_tvm.errors import DeviceUnavailableError, MeasurementError, OfaTvmError
from ofa_tvm.measurement.protocol import Measurement
from ofa_tvm.measurement.speeds import Speeds

LATENCY_MS = 4.0


def measured(
    drift: float = 0.0, median_ms: float = LATENCY_MS, reference_ms: float = 1.0, device: str = "board0"
) -> Measurement:
    return Measurement((median_ms,), median_ms, median_ms, 0.0, drift, reference_ms, device, False, "", {})


class Drifting:
    """A bench whose device drifts by what is said, measures what is said, or fails."""

    def __init__(self, *steps: float | Measurement | Exception) -> None:
        self.left = list(steps)
        self.farm = self
        self.reference: Any = None
        self.target = SimpleNamespace(measurement=SimpleNamespace(max_drift=0.1))

    def measure(self, *_arguments: object) -> Measurement:
        step = self.left.pop(0)
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Measurement) else measured(step)


def drifts(bench: Any, budget_ms: float = 2 * LATENCY_MS) -> list[float]:
    return [measurement.drift for measurement in measure_steadily(bench, None, budget_ms, Speeds())]


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


def test_a_budget_within_the_drift_is_measured_again_however_small_the_drift() -> None:
    assert drifts(Drifting(0.05, 0.02, 0.0), LATENCY_MS * 1.03) == [0.05, 0.02]
    assert drifts(Drifting(0.05, 0.03, 0.04, 0.0), LATENCY_MS * 1.01) == [0.05, 0.04, 0.03]


def test_a_clear_miss_and_a_clear_hit_are_measured_once() -> None:
    assert drifts(Drifting(0.05), LATENCY_MS * 0.99) == [0.05]
    assert drifts(Drifting(0.05), LATENCY_MS * 1.06) == [0.05]


def test_the_clear_one_counts_though_another_drifted_less() -> None:
    """4 ms and 3% leaves open whether it is within 4.1 ms; 4.2 ms and 5% does not."""
    slower = measured(0.05, 4.2)
    assert measure_steadily(Drifting(0.03, slower), None, 4.1, Speeds())[-1] is slower  # type: ignore[arg-type]


def test_a_latency_counts_as_on_the_slowest_device_with_the_drift_added() -> None:
    """board1 takes half as long again, so 4 ms on board0 are 6 ms on it."""
    speeds = Speeds([measured(reference_ms=1.0), measured(reference_ms=1.5, device="board1")])
    assert bound_ms(measured(0.1), speeds) == pytest.approx(6.6)
    assert bound_ms(measured(0.1, 6.0, 1.5, "board1"), speeds) == pytest.approx(6.6)
    (only,) = measure_steadily(Drifting(0.1, 0.1), None, 5.0, speeds)  # type: ignore[arg-type]
    assert speeds.comparable_ms(only) == pytest.approx(6.0)  # a clear miss on board1, where 4 ms on board0 is none
