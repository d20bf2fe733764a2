"""Measurements that can't be: of a file that somebody edited, or of a device that doesn't know the time."""

from __future__ import annotations

import math
import statistics

from ofa_tvm.measurement.protocol import Measurement

MAX_LATENCY_MS = 3_600_000.0
"""An hour: beyond every time limit that makes sense for one run of a kernel or a subnet."""
_ROUNDING = 1e-6


def implausible(measurement: Measurement) -> str | None:
    """What is wrong with a measurement, with the value; None if nothing is."""
    samples_ms = measurement.samples_ms
    if not samples_ms:
        return "samples_ms has no samples"
    for sample_ms in samples_ms:
        if not 0 < sample_ms <= MAX_LATENCY_MS:  # not a number, too
            return f"samples_ms has {sample_ms!r}, which is no time between 0 and an hour"
    derived = {"median_ms": statistics.median(samples_ms), "min_ms": min(samples_ms)}
    for name, expected in derived.items():
        value = getattr(measurement, name)
        if not math.isclose(value, expected, rel_tol=_ROUNDING):
            return f"{name} is {value!r}, that of its samples {expected!r}"
    for name in ("spread", "drift"):
        value = getattr(measurement, name)
        if not 0 <= value < math.inf:
            return f"{name} is {value!r}, which must not be negative"
    if not 0 < measurement.reference_ms <= MAX_LATENCY_MS:
        return f"reference_ms is {measurement.reference_ms!r}, which is no time between 0 and an hour"
    return None
