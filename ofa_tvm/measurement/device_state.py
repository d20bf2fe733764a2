"""Whether a device is in a state in which its latencies mean something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from ofa_tvm.measurement.device_info import DeviceInfo
from ofa_tvm.targets import Target

HOT_C = 75.0
LITTLE_MEMORY_MIB = 200
CLOCK_SHARE = 0.7
"""Boards of one name are sold with several clocks; below this share of the fastest something else is slow."""


class KnownDevice(Protocol):
    """What is known of a device that is open."""

    @property
    def name(self) -> str:
        """As it stands in records."""

    @property
    def emulated(self) -> bool:
        """Whether its times mean nothing in any case."""

    @property
    def info(self) -> DeviceInfo | None:
        """What it says about itself."""


def warnings_before_measuring(devices: Iterable[KnownDevice], target: Target) -> list[str]:
    """A line for whatever makes the latencies of a device those of another state than its best."""
    return [
        f"{device.name}: {problem}"
        for device in devices
        if device.info is not None and not device.emulated
        for problem in clock_problems(device.info, target)
    ]


def state_problems(info: DeviceInfo, target: Target, *, emulated: bool = False) -> list[str]:
    """All that is wrong with the state of a device, its clock among it."""
    return [*clock_problems(info, target), *_other_problems(info, target, emulated=emulated)]


def clock_problems(info: DeviceInfo, target: Target) -> list[str]:
    """What is wrong with its clock: one that moves, is held down, or is not that of the target's device."""
    problems = []
    if info.governor and info.governor != "performance":
        problems.append(f"governor {info.governor}: the clock will move; set it to performance")
    elif info.clock_mhz and info.max_clock_mhz and info.clock_mhz < CLOCK_SHARE * info.max_clock_mhz:
        problems.append(
            f"its clock is at {info.clock_mhz} MHz of {info.max_clock_mhz}: look at its temperature, power supply and"
            " power mode"
        )
    fastest = target.cpu.max_clock_mhz
    if info.max_clock_mhz is not None and fastest is not None and info.max_clock_mhz < CLOCK_SHARE * fastest:
        problems.append(
            f"its clock goes to {info.max_clock_mhz} MHz, a {target.name} goes to {fastest}; look at its power mode,"
            " or write a target for it"
        )
    return problems


def _other_problems(info: DeviceInfo, target: Target, *, emulated: bool) -> Iterator[str]:
    if info.temperature_c is not None and info.temperature_c >= HOT_C:
        yield f"{info.temperature_c:.0f} degrees Celsius: it may throttle; let it cool down"
    if info.memory_available_mib is not None and info.memory_available_mib < LITTLE_MEMORY_MIB:
        yield f"only {info.memory_available_mib} MiB of memory are free"
    if info.cores is not None and info.cores < target.threads:
        yield f"{info.cores} cores for kernels of {target.threads} threads"
    elif info.cores is not None and info.cores < (target.cpu.cores or 0) and not emulated:
        yield (
            f"its server may use {info.cores} cores, a {target.name} has {target.cpu.cores}; are some off, or is it "
            "another board?"
        )
