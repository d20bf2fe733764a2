"""What a measurement costs beside the device's own time, on several ways to one and the same CPU."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import tvm
from farm_kernels import Kernels
from farm_scaling import await_free, require_success

from ofa_tvm.measurement import rpc_session
from ofa_tvm.measurement.devices import open_farm
from ofa_tvm.measurement.job import KernelJob
from ofa_tvm.measurement.rpc_device import RpcDevice
from ofa_tvm.measurement.tracker import TrackerAddress
from ofa_tvm.reporting import Say
from ofa_tvm.targets import MeasurementProtocol, Target

ROUND_TRIPS = 200


@dataclass(frozen=True, slots=True)
class Call:
    """One job on a device.

    Attributes
    ----------
    took_ms
        All of it, as the host sees it.
    own_ms
        What the device spent in the kernel: warm-up runs, and samples times the runs of each.
    """

    took_ms: float
    own_ms: float
    latency_ms: float


@dataclass(slots=True)
class Pass:
    """All kernels measured once, over a connection of its own.

    Attributes
    ----------
    connect_ms
        Until the farm had its device.
    upload_ms
        What the first measurement cost more than the device's own time: the library's way there.
    calls
        By the kernel's name.
    per_minute
        Kernels; measuring the reference kernel counts as time, connecting and uploading do not.
    """

    connect_ms: float = 0.0
    upload_ms: float = 0.0
    round_trips_ms: tuple[float, ...] = ()
    calls: dict[str, Call] = field(default_factory=dict)
    per_minute: float = 0.0


def pass_in_process(kernels: Kernels, protocol: MeasurementProtocol) -> Pass:
    """As `ofa_tvm.measurement.rpc_session` measures, but without a session."""
    module = tvm.runtime.load_module(str(kernels.reference.library))
    random = np.random.default_rng(0)
    result = Pass()
    for job in kernels.jobs:
        start_s = time.perf_counter()
        arguments = [tvm.runtime.tensor(2 * random.random(shape, dtype=np.float32) - 1) for shape in job.shapes]
        evaluate = module.time_evaluator
        estimate_ms = evaluate(job.function, tvm.cpu(), number=protocol.warmup_runs)(*arguments).mean * 1e3
        runs = rpc_session.runs_per_sample(estimate_ms, protocol.min_repeat_ms)
        evaluator = evaluate(job.function, tvm.cpu(), number=runs, repeat=protocol.repeats)
        samples_ms = tuple(seconds * 1e3 for seconds in evaluator(*arguments).results)
        result.calls[job.function] = _call(start_s, protocol, estimate_ms, runs, samples_ms)
    return result


def pass_over_rpc(
    target: Target, tracker: TrackerAddress, kernels: Kernels, protocol: MeasurementProtocol, say: Say
) -> Pass:
    """On the device with the target's key at the tracker, as a farm does it.

    Raises
    ------
    DeviceError
        There is none.
    MeasurementError
        A kernel failed.
    """
    await_free(tracker, target.device.key, 1)
    result = Pass()
    start_s = time.perf_counter()
    with open_farm(target, str(tracker), say) as farm, _watched() as seen:
        result.connect_ms = _since_ms(start_s)
        (device,) = farm.open_devices
        device.time(kernels.reference, protocol)
        ((_, first),) = seen
        result.upload_ms = first.took_ms - first.own_ms
        result.round_trips_ms = device.round_trips_ms(ROUND_TRIPS)
        start_s = time.perf_counter()
        require_success([outcome for _, outcome in farm.measure_many(kernels.jobs, kernels.reference, protocol)])
        result.per_minute = len(kernels.jobs) * 60e3 / _since_ms(start_s)
    result.calls = {job.function: call for job, call in seen if job != kernels.reference}
    return result


@contextlib.contextmanager
def _watched() -> Iterator[list[tuple[Any, Call]]]:
    """Every job that an RPC device times meanwhile, and what it cost. The device times one at a time."""
    time_job, runs_per_sample = RpcDevice.time, rpc_session.runs_per_sample
    seen: list[tuple[Any, Call]] = []
    estimates: list[tuple[float, int]] = []

    def estimate(estimate_ms: float, min_repeat_ms: float) -> int:
        runs = runs_per_sample(estimate_ms, min_repeat_ms)
        estimates.append((estimate_ms, runs))
        return runs

    def timed(device: RpcDevice, job: KernelJob, protocol: MeasurementProtocol) -> tuple[float, ...]:
        start_s = time.perf_counter()
        samples_ms = time_job(device, job, protocol)
        seen.append((job, _call(start_s, protocol, *estimates.pop(), samples_ms)))
        return samples_ms

    with mock.patch.object(RpcDevice, "time", timed), mock.patch.object(rpc_session, "runs_per_sample", estimate):
        yield seen


def _call(
    start_s: float, protocol: MeasurementProtocol, estimate_ms: float, runs: int, samples_ms: tuple[float, ...]
) -> Call:
    took_ms = _since_ms(start_s)
    latency_ms = statistics.median(samples_ms)
    # TVM runs a function once more before it times it, each of the two times.
    own_ms = (1 + protocol.warmup_runs) * estimate_ms + latency_ms + runs * sum(samples_ms)
    return Call(took_ms, own_ms, latency_ms)


def _since_ms(start_s: float) -> float:
    return (time.perf_counter() - start_s) * 1e3
