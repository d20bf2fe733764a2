"""The latency of a candidate, measured until it can be trusted, and what it is worth if it can't."""

from __future__ import annotations

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.errors import DeviceError, StageError
from ofa_tvm.measurement.job import SubnetJob
from ofa_tvm.measurement.protocol import Measurement
from ofa_tvm.measurement.speeds import Speeds

MEASUREMENTS = 3


def measure_steadily(bench: KernelBench, job: SubnetJob, budget_ms: float, speeds: Speeds) -> list[Measurement]:
    """Measure until it is clear whether the budget is met, `MEASUREMENTS` times at most.

    It is clear if the device drifts by no more than its protocol allows, and the budget is not between the latency and
    the latency with the drift added.

    Parameters
    ----------
    speeds
        Of the target's devices; learns what is measured here.

    Returns
    -------
    list
        All that was measured, the one to judge by last: the clear one, or the one with the least drift.

    Raises
    ------
    MeasurementError, NumericalMismatchError, DeviceError
        As `Farm.measure`, the first time.
    """
    found: list[Measurement] = []
    while len(found) < MEASUREMENTS:
        try:
            found.append(bench.farm.measure(job, bench.reference, bench.target.measurement))
        except (StageError, DeviceError):  # whoever asks for the device next hears of it again
            if not found:
                raise
            break
        last = found[-1]
        speeds.learn(last)
        undecided = speeds.comparable_ms(last) <= budget_ms < bound_ms(last, speeds)
        if last.drift <= bench.target.measurement.max_drift and not undecided:
            return found
    return sorted(found, key=lambda measurement: -measurement.drift)


def bound_ms(measurement: Measurement, speeds: Speeds) -> float:
    """What a latency is surely within, on whichever of the target's devices.

    It is taken as on the slowest of them, as the predictor predicts; and a device that drifted could have been that
    much faster while it measured.
    """
    return speeds.comparable_ms(measurement) * (1 + measurement.drift)
