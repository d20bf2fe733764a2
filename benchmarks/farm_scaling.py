"""Measurements a minute with several devices of one key at a tracker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from farm_kernels import Kernels

from ofa_tvm.errors import DeviceUnavailableError, MeasurementError
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.protocol import MeasurementFailure
from ofa_tvm.measurement.sources import TrackerSource
from ofa_tvm.measurement.tracker import TrackerAddress, summarize
from ofa_tvm.targets import MeasurementProtocol, Target

Say = Callable[[str], None]

FREE_LIMIT_S = 60.0
OPEN_LIMIT_S = 10.0
POLL_PERIOD_S = 0.05


def measurements_a_minute(
    target: Target, tracker: TrackerAddress, kernels: Kernels, devices: int, protocol: MeasurementProtocol, say: Say
) -> float:
    """Measure all kernels on so many devices, which are connected and have the kernels' library before time runs.

    Raises
    ------
    DeviceUnavailableError
        There are not so many.
    MeasurementError
        A kernel failed.
    """
    await_free(tracker, target.device.key, devices)
    source = TrackerSource(target, tracker)
    source.limit = devices
    with contextlib.closing(Farm(source, say)) as farm:
        farm.open(OPEN_LIMIT_S)
        if farm.connected != devices:
            raise DeviceUnavailableError(f"{farm.connected} of {devices} devices {target.device.key!r} answered")
        for device in farm.open_devices:
            device.time(kernels.reference, protocol)
        start_s = time.monotonic()
        outcomes = [outcome for _, outcome in farm.measure_many(kernels.jobs, kernels.reference, protocol)]
        minutes = (time.monotonic() - start_s) / 60
    require_success(outcomes)
    return len(outcomes) / minutes


def await_free(tracker: TrackerAddress, key: str, devices: int) -> None:
    """Until the tracker has so many free devices with this key: a session's end reaches it a little later.

    Raises
    ------
    DeviceUnavailableError
        It has not within a minute.
    """
    deadline = time.monotonic() + FREE_LIMIT_S
    while (summary := summarize(tracker)).free.get(key, 0) < devices:
        if time.monotonic() > deadline:
            raise DeviceUnavailableError(f"{devices} free devices {key!r} wanted, but the tracker has {summary}")
        time.sleep(POLL_PERIOD_S)


def require_success(outcomes: Sequence[object]) -> None:
    """Refuse figures with a failure among them.

    Raises
    ------
    MeasurementError
        A kernel failed.
    """
    for outcome in outcomes:
        if isinstance(outcome, MeasurementFailure):
            raise MeasurementError(outcome.error)
