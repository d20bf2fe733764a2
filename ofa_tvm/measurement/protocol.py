"""The measuring protocol: how samples become a measurement that can be judged later.

0. Before a device's first chunk, and before its trial after it was set aside, the reference kernel is run until it
   has not become faster for 0.2 s (`warm_up`). What a first chunk suffers from is the clock, which rises from idle by
   6% over half a second on a Xeon; memory touched for the first time makes no difference there. What it can't help: on
   a shared host the clock also steps by 11% for seconds at a time, with what its neighbours do.
1. A job is run a few times to warm up and to see how long a run takes.
2. Each of ``repeats`` samples is the mean of as many runs as last ``min_repeat_ms``.
3. The latency is the median of the samples; their interquartile range over the median is the spread.
4. Jobs are measured in chunks, each on one device. A reference kernel is measured there before and after; the
   relative change of its latency is the drift. A chunk that drifted by more than ``max_drift`` is measured again:
   on other devices if there are any, else twice at most on the same; then the attempt with the least drift is
   kept, and says how much it drifted. A device whose reference kernel has become slower by more than that since its
   first chunks is set aside if there are others, and named if there are none.
5. A job that fails is tried once more: on another device, or if there is none, over a new connection; and a third
   time if a device that can be trusted has not tried it. One that failed each time is a value like any other, and is
   not tried again. A lost connection is nobody's failure, unless it is lost for the third time during the same job.
"""

from __future__ import annotations

import functools
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import ClassVar

from pydantic import ConfigDict

import ofa_tvm
from ofa_tvm.measurement.device import Device


@dataclass(frozen=True, slots=True)
class Measurement:
    """An observed latency with what is needed to judge it.

    Attributes
    ----------
    samples_ms
        In the order they were taken.
    spread
        Interquartile range of the samples over their median.
    drift
        Relative change of the reference kernel's latency from before to after.
    reference_ms
        Mean of the two.
    timestamp
        ISO 8601, UTC.
    versions
        Of this package, TVM and Python, on the host; of what runs on the device with ``device`` before, if known.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    samples_ms: tuple[float, ...]
    median_ms: float
    min_ms: float
    spread: float
    drift: float
    reference_ms: float
    device: str
    emulated: bool
    timestamp: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class MeasurementFailure:
    """A job that gave no latency, and why in one line."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    error: str
    device: str
    timestamp: str
    versions: dict[str, str]


Outcome = Measurement | MeasurementFailure

NOT_BUILT = "none: not built"
"""In the place of a device's name, where a job never came to one."""


def median_and_spread(samples_ms: Sequence[float]) -> tuple[float, float]:
    """Median, and interquartile range over the median."""
    median_ms = statistics.median(samples_ms)
    if len(samples_ms) < 2:
        return median_ms, 0.0
    lower, _, upper = statistics.quantiles(samples_ms, n=4, method="inclusive")
    return median_ms, (upper - lower) / median_ms


def measurement(
    device: Device, samples_ms: tuple[float, ...], before_ms: float, after_ms: float, timestamp: str
) -> Measurement:
    """What samples between two latencies of the reference kernel amount to."""
    median_ms, spread = median_and_spread(samples_ms)
    return Measurement(
        samples_ms=samples_ms,
        median_ms=median_ms,
        min_ms=min(samples_ms),
        spread=spread,
        drift=relative_drift(before_ms, after_ms),
        reference_ms=(before_ms + after_ms) / 2,
        device=device.name,
        emulated=device.emulated,
        timestamp=timestamp,
        versions={**host_versions(), **device.versions},
    )


def relative_drift(before_ms: float, after_ms: float) -> float:
    """Change of the reference kernel's latency."""
    return abs(after_ms - before_ms) / before_ms


def failed_on(device: str, why: object) -> MeasurementFailure:
    """The outcome, as of now, of a job that failed on a device, and why: a line of text, or the error that says it."""
    return MeasurementFailure(str(why), device, now(), host_versions())


def not_built(why: object) -> MeasurementFailure:
    """The outcome, as of now, of a job that never came to a device."""
    return failed_on(NOT_BUILT, why)


def now() -> str:
    """Time stamp of a record."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@functools.cache
def host_versions() -> dict[str, str]:
    """Of this package, TVM and Python, here."""
    return {
        "ofa_tvm": ofa_tvm.__version__,
        "apache-tvm": version("apache-tvm"),
        "python": platform.python_version(),
    }
