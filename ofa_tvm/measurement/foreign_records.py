"""Records of another machine: a target has one name, wherever the folder with its records has come to."""

from __future__ import annotations

from collections.abc import Iterable

from ofa_tvm.measurement.records import RecordStore


def foreign_cpus(store: RecordStore, devices: Iterable[str]) -> list[str]:
    """CPUs that a target's latencies are recorded from, and none of its devices has.

    Parameters
    ----------
    devices
        Names of all devices there are now. If one doesn't tell its CPU, it may be any.
    """
    here = {_cpu(name) for name in devices}
    names = {record.outcome.device for record in store if record.measurement is not None}
    there = {cpu for name in names if (cpu := _cpu(name))}
    return [] if "" in here else sorted(there - here)


def _cpu(device: str) -> str:
    """What a device's name says of its CPU: behind the colon, and before the address if it has one."""
    return device.partition(": ")[2].partition(" at ")[0]
