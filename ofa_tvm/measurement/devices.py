"""From a target to a device that jobs can be measured on."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from ofa_tvm.errors import TrackerUnreachableError
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.local_farm import local_farm
from ofa_tvm.measurement.null_device import NullDevice
from ofa_tvm.measurement.rpc_device import RpcDevice
from ofa_tvm.measurement.tracker import TrackerAddress, summarize
from ofa_tvm.targets import Target

TRACKER_VARIABLE = "OFA_TVM_TRACKER"
_CPUINFO = Path("/proc/cpuinfo")


@contextlib.contextmanager
def open_device(target: Target, tracker: str | None = None) -> Iterator[Device]:
    """The target's device, for as long as the context lasts.

    The tracker is `tracker`, else that in ``OFA_TVM_TRACKER``, else that of the target. ``rpc`` takes the
    device there. ``local`` takes it there too if one with its key is free; otherwise it starts a tracker and
    a server of its own, and stops them at the end. Call it from a thread that outlives the context.

    Parameters
    ----------
    tracker
        ``host:port``.

    Raises
    ------
    UsageError
        An address that is none.
    TrackerUnreachableError
        No tracker answers there. For ``local`` only if the address was given, not the target's default.
    DeviceUnavailableError
        The tracker has no free device of this key, or the local server does not start.
    """
    if target.device.kind == "null":
        yield NullDevice(target)
        return
    given = tracker or os.environ.get(TRACKER_VARIABLE)
    address = (
        TrackerAddress.parse(given) if given else TrackerAddress(target.device.tracker_host, target.device.tracker_port)
    )
    key = target.device.key
    with contextlib.ExitStack() as stack:
        if target.device.kind == "rpc" or _has_free_device(address, key, must_answer=bool(given)):
            device = RpcDevice(target, f"{key} by RPC tracker {address}", lambda: address)
        else:
            farm = stack.enter_context(local_farm(target))
            device = RpcDevice(target, f"{key}: {cpu_model()}", farm.ensure_running)
        stack.callback(device.close)
        device.open()
        yield device


def _has_free_device(address: TrackerAddress, key: str, must_answer: bool) -> bool:
    try:
        return summarize(address).free.get(key, 0) > 0
    except TrackerUnreachableError:
        if must_answer:
            raise
        return False


def cpu_model() -> str:
    """Marketing name of the host's CPU, or of the board, where the operating system tells it."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or platform.machine()
