"""The protocol's statistics, and the handling of one chunk on a device whose latencies are written down here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ofa_tvm.errors import DeviceUnavailableError, MeasurementError
from ofa_tvm.measurement.chunk import Chunk
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.job import Float32Array, Job, KernelJob, SubnetJob
from ofa_tvm.measurement.protocol import median_and_spread
from ofa_tvm.measurement.task import Tally, Task
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import MeasurementProtocol

PROTOCOL = MeasurementProtocol(max_drift=0.05, repeats=3)


def _job(function: str) -> KernelJob:
    return KernelJob(Path("x.so"), function, ((1,),), Workload("scale", 1, 1, 1, 1))


REFERENCE = _job("reference")


class ScriptedDevice(Device):
    """Gives the reference's latencies from a list, then the last one for ever; a job's samples by its name."""

    name = "scripted"
    emulated = False
    versions = {"device firmware": "7"}  # noqa: RUF012
    is_open = True

    def __init__(self, reference_ms: list[float | Exception], samples: dict[str, tuple[float, ...] | Exception]):
        self.reference_ms = reference_ms
        self.samples = samples
        self.calls: list[str] = []

    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        assert isinstance(job, KernelJob)
        self.calls.append(job.function)
        if job == REFERENCE:
            result = self.reference_ms.pop(0) if len(self.reference_ms) > 1 else self.reference_ms[0]
            samples = (result,) * protocol.repeats
        else:
            result = samples = self.samples[job.function]
        if isinstance(result, Exception):
            raise result
        return samples

    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        raise NotImplementedError

    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
        raise NotImplementedError

    def close(self) -> None:
        self.is_open = False


def _chunk(*functions: str) -> Chunk:
    return Chunk([Task(index, _job(function)) for index, function in enumerate(functions)], Tally())


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_spread_is_numpys_interquartile_range(count: int):
    samples = np.random.default_rng(count).uniform(1, 2, count)
    lower, median, upper = np.percentile(samples, [25, 50, 75])
    assert median_and_spread(list(samples)) == (pytest.approx(median), pytest.approx((upper - lower) / median))


def test_a_chunk_is_measured_between_two_references():
    device, chunk = ScriptedDevice([1.0, 1.02], {"a": (4.0, 1.0, 2.0), "b": (3.0,)}), _chunk("a", "b")
    chunk.advance(device, REFERENCE, PROTOCOL)
    assert device.calls == ["reference", "a", "b", "reference"]
    (_, first), (_, second) = chunk.measurements(device)
    assert (first.samples_ms, first.median_ms, first.min_ms) == ((4.0, 1.0, 2.0), 2.0, 1.0)
    assert first.spread == pytest.approx((3.0 - 1.5) / 2.0)
    assert second.median_ms == 3.0
    for measurement in (first, second):
        assert measurement.drift == pytest.approx(0.02)
        assert measurement.reference_ms == pytest.approx(1.01)
        assert measurement.device == "scripted"
        assert measurement.versions["apache-tvm"]
        assert measurement.versions["device firmware"] == "7"


@pytest.mark.parametrize(("before_ms", "after_ms"), [(1.0, 1.5), (1.0, 0.5)])
def test_speeding_up_is_drift_too(before_ms: float, after_ms: float):
    chunk = _chunk("a")
    chunk.advance(ScriptedDevice([before_ms, after_ms], {"a": (1.0,)}), REFERENCE, PROTOCOL)
    assert chunk.best.drift == 0.5


def test_the_attempt_with_the_least_drift_counts():
    device, chunk = ScriptedDevice([1.0, 1.5, 1.0, 1.2, 1.0, 1.4], {"a": (1.0,)}), _chunk("a")
    for latency_ms in (1.0, 2.0, 3.0):
        device.samples["a"] = (latency_ms,)
        chunk.advance(device, REFERENCE, PROTOCOL)
    ((_, measurement),) = chunk.measurements(device)
    assert measurement.drift == pytest.approx(0.2)
    assert measurement.median_ms == 2.0


def test_a_failed_job_leaves_the_chunk():
    device, chunk = ScriptedDevice([1.0], {"a": (1.0,), "bad": MeasurementError("crashed")}), _chunk("a", "bad")
    chunk.advance(device, REFERENCE, PROTOCOL)
    ((task, failure),) = chunk.take_failed("scripted")
    assert (task.index, failure.reason, failure.number) == (1, "crashed", 1)
    assert chunk.tally == Tally(tried=2, last_success=0)
    assert [task.index for task, _ in chunk.measurements(device)] == [0]
    assert chunk.take_failed("scripted") == []


def test_a_lost_device_ends_the_attempt_and_the_next_connection_goes_on():
    lost = ScriptedDevice([1.0], {"a": (1.0,), "b": DeviceUnavailableError("unplugged")})
    chunk = _chunk("a", "b", "c")
    chunk.advance(lost, REFERENCE, PROTOCOL)
    assert not lost.is_open
    assert not chunk.is_whole
    assert (chunk.lost, chunk.lost_during) == ("unplugged", chunk.tasks[1])
    assert chunk.take_failed("scripted") == []
    back = ScriptedDevice([1.0], {"b": (1.0,), "c": (1.0,)})
    chunk.advance(back, REFERENCE, PROTOCOL)
    assert back.calls == ["reference", "b", "c", "reference"]
    assert chunk.is_whole
    assert [task.index for task, _ in chunk.measurements(back)] == [0, 1, 2]


def test_a_reference_that_fails_is_told_and_tried_again():
    device, chunk = ScriptedDevice([MeasurementError("no"), 1.0], {"a": (1.0,)}), _chunk("a")
    chunk.advance(device, REFERENCE, PROTOCOL)
    assert chunk.reference_error == "no"
    assert not chunk.is_whole
    chunk.advance(device, REFERENCE, PROTOCOL)
    assert chunk.reference_error is None
    assert chunk.is_whole
