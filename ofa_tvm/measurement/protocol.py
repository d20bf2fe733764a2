"""The measuring protocol: how samples become a measurement that can be judged later.

1. A job is run a few times to warm up and to see how long a run takes.
2. Each of ``repeats`` samples is the mean of as many runs as last ``min_repeat_ms``.
3. The latency is the median of the samples; their interquartile range over the median is the spread.
4. Jobs are measured in chunks. A reference kernel is measured before and after each; the relative change
   of its latency is the drift. A chunk that drifted by more than ``max_drift`` is measured again, twice at
   most; then the attempt with the least drift is kept, and says how much it drifted.
5. A job that fails is a value like any other, and is not tried again.
"""

from __future__ import annotations

import itertools
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import ClassVar

from pydantic import ConfigDict

import ofa_tvm
from ofa_tvm.errors import MeasurementError
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.job import Job, KernelJob
from ofa_tvm.targets import MeasurementProtocol

CHUNK_JOBS = 16
MAX_ATTEMPTS = 3


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
        Of this package, TVM and Python, on the host.
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


def measure(device: Device, job: Job, reference: KernelJob, protocol: MeasurementProtocol) -> Measurement:
    """Measure one job.

    Raises
    ------
    MeasurementError
        The job failed, or the reference kernel did.
    DeviceError
        The device can't be reached.
    """
    (outcome,) = measure_many(device, [job], reference, protocol)
    if isinstance(outcome, MeasurementFailure):
        raise MeasurementError(outcome.error)
    return outcome


def measure_many(
    device: Device, jobs: Iterable[Job], reference: KernelJob, protocol: MeasurementProtocol
) -> Iterator[Outcome]:
    """Measure jobs in order, one outcome each; outcomes come a chunk at a time.

    Raises
    ------
    MeasurementError
        The reference kernel failed, without which nothing can be judged.
    DeviceError
        The device can't be reached.
    """
    remaining = iter(jobs)
    while chunk := list(itertools.islice(remaining, CHUNK_JOBS)):
        yield from _measure_chunk(device, chunk, reference, protocol)


def median_and_spread(samples_ms: Sequence[float]) -> tuple[float, float]:
    """Median, and interquartile range over the median."""
    median_ms = statistics.median(samples_ms)
    if len(samples_ms) < 2:
        return median_ms, 0.0
    lower, _, upper = statistics.quantiles(samples_ms, n=4, method="inclusive")
    return median_ms, (upper - lower) / median_ms


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Samples of a chunk's jobs, or errors, between two reference latencies."""

    results: list[tuple[float, ...] | str]
    before_ms: float
    after_ms: float

    @property
    def drift(self) -> float:
        return abs(self.after_ms - self.before_ms) / self.before_ms


def _measure_chunk(
    device: Device, jobs: Sequence[Job], reference: KernelJob, protocol: MeasurementProtocol
) -> Iterator[Outcome]:
    attempts: list[_Attempt] = []
    failures: dict[int, str] = {}
    while len(attempts) < MAX_ATTEMPTS and not (attempts and attempts[-1].drift <= protocol.max_drift):
        before_ms = statistics.median(device.time(reference, protocol))
        results = [failures.get(index) or _time(device, job, protocol) for index, job in enumerate(jobs)]
        failures = {index: result for index, result in enumerate(results) if isinstance(result, str)}
        after_ms = statistics.median(device.time(reference, protocol))
        attempts.append(_Attempt(results, before_ms, after_ms))
        if len(failures) == len(jobs):
            break
    best = min(attempts, key=lambda attempt: attempt.drift)
    timestamp, versions = datetime.now(UTC).isoformat(timespec="seconds"), _versions()
    for index, result in enumerate(best.results):
        if index in failures or isinstance(result, str):
            yield MeasurementFailure(failures[index], device.name, timestamp, versions)
            continue
        median_ms, spread = median_and_spread(result)
        yield Measurement(
            samples_ms=result,
            median_ms=median_ms,
            min_ms=min(result),
            spread=spread,
            drift=best.drift,
            reference_ms=(best.before_ms + best.after_ms) / 2,
            device=device.name,
            emulated=device.emulated,
            timestamp=timestamp,
            versions=versions,
        )


def _time(device: Device, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...] | str:
    try:
        return device.time(job, protocol)
    except MeasurementError as error:
        return str(error)


def _versions() -> dict[str, str]:
    return {
        "ofa_tvm": ofa_tvm.__version__,
        "apache-tvm": version("apache-tvm"),
        "python": platform.python_version(),
    }
