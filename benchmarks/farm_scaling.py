"""Measurements a minute with several devices of one key at a tracker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from unittest import mock

from farm_kernels import Kernels

from ofa_tvm.errors import DeviceUnavailableError, MeasurementError
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.protocol import MeasurementFailure
from ofa_tvm.measurement.rpc_device import RpcDevice
from ofa_tvm.measurement.sources import TrackerSource
from ofa_tvm.measurement.tracker import TrackerAddress, summarize
from ofa_tvm.targets import MeasurementProtocol, Target

FREE_LIMIT_S = 60.0
OPEN_LIMIT_S = 10.0
POLL_PERIOD_S = 0.05


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast a farm was.

    Attributes
    ----------
    per_minute
        Measurements, without those of the reference kernel.
    references
        How often the reference kernel was measured meanwhile.
    """

    per_minute: float
    references: int


def measure_rate(
    target: Target, tracker: TrackerAddress, kernels: Kernels, devices: int, protocol: MeasurementProtocol
) -> Rate:
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
    timed = mock.patch.object(RpcDevice, "time", autospec=True, side_effect=RpcDevice.time)
    with contextlib.closing(Farm(source, lambda _line: None)) as farm, timed as calls:
        farm.open(OPEN_LIMIT_S)
        _require(farm, devices)
        for device in farm.open_devices:
            device.time(kernels.reference, protocol)
        calls.reset_mock()
        start_s = time.monotonic()
        outcomes = [outcome for _, outcome in farm.measure_many(kernels.jobs, kernels.reference, protocol)]
        minutes = (time.monotonic() - start_s) / 60
        _require(farm, devices)
    require_success(outcomes)
    return Rate(len(outcomes) / minutes, len(calls.call_args_list) - len(outcomes))


def _require(farm: Farm, devices: int) -> None:
    """Not fewer from the first measurement to the last."""
    if farm.connected != devices:
        raise DeviceUnavailableError(f"{devices} devices wanted, {farm.connected} answer: {farm.name}")


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
