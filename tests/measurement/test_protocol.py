"""The protocol's statistics and its handling of drift, on a device whose samples are written down here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ofa_tvm.errors import DeviceUnavailableError, MeasurementError
from ofa_tvm.measurement.device import Device, Float32Array
from ofa_tvm.measurement.job import Job, KernelJob, SubnetJob
from ofa_tvm.measurement.protocol import (
    CHUNK_JOBS,
    MAX_ATTEMPTS,
    Measurement,
    MeasurementFailure,
    measure,
    measure_many,
    median_and_spread,
)
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import MeasurementProtocol

PROTOCOL = MeasurementProtocol(max_drift=0.05, repeats=3)


def _job(function: str) -> KernelJob:
    return KernelJob(Path("x.so"), function, ((1,),), Workload("scale", 1, 1, 1, 1))


REFERENCE = _job("reference")


class ScriptedDevice(Device):
    """Gives the reference's latencies from a list, then the last one for ever; a job's samples by its name."""

    def __init__(self, reference_ms: list[float], samples: dict[str, tuple[float, ...] | Exception]) -> None:
        self.reference_ms = reference_ms
        self.samples = samples
        self.calls: list[str] = []

    name = "scripted"
    emulated = False

    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        assert isinstance(job, KernelJob)
        self.calls.append(job.function)
        if job == REFERENCE:
            latency = self.reference_ms.pop(0) if len(self.reference_ms) > 1 else self.reference_ms[0]
            return (latency,) * protocol.repeats
        samples = self.samples[job.function]
        if isinstance(samples, Exception):
            raise samples
        return samples

    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        raise NotImplementedError


def test_median_minimum_and_spread():
    device = ScriptedDevice([1.0], {"a": (4.0, 1.0, 2.0)})
    measurement = measure(device, _job("a"), REFERENCE, PROTOCOL)
    assert (measurement.median_ms, measurement.min_ms) == (2.0, 1.0)
    assert measurement.samples_ms == (4.0, 1.0, 2.0)
    assert measurement.spread == pytest.approx((3.0 - 1.5) / 2.0)
    assert measurement.versions["apache-tvm"]


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_spread_is_numpys_interquartile_range(count: int):
    samples = np.random.default_rng(count).uniform(1, 2, count)
    lower, median, upper = np.percentile(samples, [25, 50, 75])
    assert median_and_spread(list(samples)) == (pytest.approx(median), pytest.approx((upper - lower) / median))


def test_steady_chunk_is_measured_once_between_two_references():
    device = ScriptedDevice([1.0, 1.02], {"a": (1.0,), "b": (2.0,)})
    outcomes = list(measure_many(device, [_job("a"), _job("b")], REFERENCE, PROTOCOL))
    assert device.calls == ["reference", "a", "b", "reference"]
    assert [outcome.median_ms for outcome in outcomes if isinstance(outcome, Measurement)] == [1.0, 2.0]
    assert outcomes[0].drift == pytest.approx(0.02)  # type: ignore[union-attr]
    assert outcomes[0].reference_ms == pytest.approx(1.01)  # type: ignore[union-attr]


def test_chunk_that_drifted_is_measured_again():
    device = ScriptedDevice([1.0, 1.5, 1.0, 1.0], {"a": (1.0,)})
    assert measure(device, _job("a"), REFERENCE, PROTOCOL).drift == 0.0
    assert device.calls.count("a") == 2


def test_speeding_up_is_drift_too():
    device = ScriptedDevice([1.0, 0.5, 1.0, 1.0], {"a": (1.0,)})
    measure(device, _job("a"), REFERENCE, PROTOCOL)
    assert device.calls.count("a") == 2


def test_drift_that_does_not_end_is_recorded_as_it_is():
    device = ScriptedDevice([1.0, 1.5, 1.0, 1.2, 1.0, 1.4], {"a": (1.0,)})
    assert measure(device, _job("a"), REFERENCE, PROTOCOL).drift == pytest.approx(0.2)
    assert device.calls.count("a") == MAX_ATTEMPTS


def test_failed_job_is_a_value_and_is_not_tried_again():
    device = ScriptedDevice([1.0, 1.5, 1.0, 1.0], {"a": (1.0,), "bad": MeasurementError("crashed")})
    good, bad = measure_many(device, [_job("a"), _job("bad")], REFERENCE, PROTOCOL)
    assert isinstance(good, Measurement)
    assert isinstance(bad, MeasurementFailure)
    assert bad.error == "crashed"
    assert (device.calls.count("a"), device.calls.count("bad")) == (2, 1)


def test_failed_single_job_is_an_error():
    with pytest.raises(MeasurementError, match="crashed"):
        measure(ScriptedDevice([1.0], {"a": MeasurementError("crashed")}), _job("a"), REFERENCE, PROTOCOL)


def test_lost_device_ends_the_run():
    device = ScriptedDevice([1.0], {"a": DeviceUnavailableError("unplugged")})
    with pytest.raises(DeviceUnavailableError):
        list(measure_many(device, [_job("a")], REFERENCE, PROTOCOL))


def test_outcomes_come_in_order_a_chunk_at_a_time_from_a_lazy_source():
    names = [f"job{index}" for index in range(CHUNK_JOBS * 2 + 3)]
    device = ScriptedDevice([1.0], {name: (float(index + 1),) for index, name in enumerate(names)})
    drawn: list[str] = []

    def source() -> Iterator[Job]:
        for name in names:
            drawn.append(name)
            yield _job(name)

    outcomes = measure_many(device, source(), REFERENCE, PROTOCOL)
    first = next(outcomes)
    assert len(drawn) == CHUNK_JOBS
    rest = list(outcomes)
    medians = [outcome.median_ms for outcome in [first, *rest] if isinstance(outcome, Measurement)]
    assert medians == [float(index + 1) for index in range(len(names))]
    assert device.calls.count("reference") == 6
