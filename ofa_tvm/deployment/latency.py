"""The latency of a candidate, measured until it can be trusted, and what it is worth if it can't."""

from __future__ import annotations

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.errors import DeviceError, StageError
from ofa_tvm.measurement.job import SubnetJob
from ofa_tvm.measurement.protocol import Measurement

MEASUREMENTS = 3


def measure_steadily(bench: KernelBench, job: SubnetJob) -> list[Measurement]:
    """Measure until the device drifts by no more than its protocol allows, `MEASUREMENTS` times at most.

    Returns
    -------
    list
        All that was measured, the one with the least drift last.

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
        if found[-1].drift <= bench.target.measurement.max_drift:
            break
    return sorted(found, key=lambda measurement: -measurement.drift)


def bound_ms(measurement: Measurement, max_drift: float) -> float:
    """What a latency is surely within: a device that drifted more than it may could have been that much faster."""
    steady = measurement.drift <= max_drift
    return measurement.median_ms if steady else measurement.median_ms * (1 + measurement.drift)
