"""From a target to the devices that jobs can be measured on."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from ofa_tvm.cpuinfo import cpu_quota, usable_cpus
from ofa_tvm.errors import TrackerUnreachableError, UsageError
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.local_farm import local_farm
from ofa_tvm.measurement.sources import DeviceSource, LocalSource, NullSource, TrackerSource
from ofa_tvm.measurement.tracker import RETURN_LIMIT_S, TrackerAddress, summarize
from ofa_tvm.reporting import Say
from ofa_tvm.targets import DeviceAccess, Target

TRACKER_VARIABLE = "OFA_TVM_TRACKER"
FREE_LIMIT_S = 10.0
_CPUINFO = Path("/proc/cpuinfo")
_ANY_DEVICE = DeviceAccess(kind="rpc", key="any")


@contextlib.contextmanager
def open_farm(target: Target, tracker: str | None = None, say: Say = lambda _line: None) -> Iterator[Farm]:
    """The target's devices, for as long as the context lasts.

    The tracker is `tracker`, else that in ``OFA_TVM_TRACKER``, else that of the target. ``rpc`` takes all free
    devices there, those that become free later, too. ``local`` takes them there too if one with its key is free;
    otherwise it starts a tracker and a server of its own, and stops them at the end. Call it from a thread that
    outlives the context.

    Parameters
    ----------
    tracker
        ``host:port``.
    say
        Told, a line at a time, what happens to the devices.

    Raises
    ------
    UsageError
        An address that is none; or the target's threads are more than the CPUs that this process may use.
    TrackerUnreachableError
        No tracker answers there. For ``local`` only if the address was given, not the target's default.
    DeviceUnavailableError
        The tracker has no free device of this key, or the local server does not start.
    """
    device = target.device
    given = _given(tracker)
    address = tracker_address(tracker, device)
    with contextlib.ExitStack() as stack:
        source: DeviceSource
        limit_s = FREE_LIMIT_S
        if device.kind == "null":
            source = NullSource(target)
        elif device.kind == "rpc" or _has_free_device(address, device.key, must_answer=bool(given)):
            source = TrackerSource(target, address)
            # A device in use becomes free; one that is not even registered comes back soon or not at all.
            limit_s = FREE_LIMIT_S if device.key in summarize(address).registered else RETURN_LIMIT_S
        else:
            _check_cpus(target, say)
            source = LocalSource(target, stack.enter_context(local_farm(target)), f"{device.key}: {cpu_model()}")
        farm = Farm(source, say)
        stack.callback(farm.close)
        farm.open(limit_s)
        yield farm


def tracker_address(tracker: str | None, device: DeviceAccess = _ANY_DEVICE) -> TrackerAddress:
    """The tracker as given by `tracker` (``host:port``), else that in ``OFA_TVM_TRACKER``, else that of the device.

    Raises
    ------
    UsageError
        An address that is none.
    """
    given = _given(tracker)
    return TrackerAddress.parse(given) if given else TrackerAddress(device.tracker_host, device.tracker_port)


def _given(tracker: str | None) -> str | None:
    return tracker or os.environ.get(TRACKER_VARIABLE)


def _check_cpus(target: Target, say: Say) -> None:
    """Whether measuring on this very computer can be any good."""
    cpus, quota = usable_cpus(), cpu_quota()
    if target.threads > cpus:
        raise UsageError(
            f"target {target.name}: threads: {target.threads}, but this command may use {cpus} of the CPUs here, by "
            "its affinity mask (taskset) or its control group's quota (cpu.max); give it more, or the target fewer"
        )
    if quota is not None and quota < 1:
        say(
            f"this command's control group may use {quota:.0%} of a CPU (cpu.max): it is stopped in between, which "
            "latencies can show; lift the quota to measure"
        )


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
