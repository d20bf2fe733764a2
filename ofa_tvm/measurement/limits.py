"""How long a farm waits for what."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait for what, in seconds.

    Attributes
    ----------
    absence_s
        Without any device, until that is an error.
    tell_s
        Without any device, until the user is told.
    return_s
        For a device whose connection broke amid a chunk, until others get its jobs.
    open_s
        For further devices to be connected to, once there is one.
    outage_s
        Devices that were there so lately are expected back.
    pause_s, longest_pause_s
        How long a device is set aside at first, and at most; it doubles from time to time. Short, for the trial after
        it costs the others nothing.
    retry_s
        Between two trials of a device that is set aside while no other can work.
    poll_s
        Between two questions for free devices.
    urgent_poll_s
        The same while a device is missed.
    """

    absence_s: float = 60.0
    tell_s: float = 3.0
    return_s: float = 3.0
    open_s: float = 15.0
    outage_s: float = 20.0
    pause_s: float = 5.0
    longest_pause_s: float = 60.0
    retry_s: float = 1.0
    poll_s: float = 1.0
    urgent_poll_s: float = 0.05


def wait_a_little(limits: Limits) -> None:
    """Between two looks for a device."""
    time.sleep(limits.urgent_poll_s)
