"""A device is run until it is as fast as it gets, before anything is measured there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from ofa_tvm.targets import MeasurementProtocol

LOOK_SAMPLES = 5
STEADY_LOOKS = 3
STEADY_S = 0.2
LONGEST_S = 3.0
LEAST_GAIN = 0.01


def warm_up(
    time_reference: Callable[[MeasurementProtocol], tuple[float, ...]],
    protocol: MeasurementProtocol,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Look at the reference kernel again and again, until it has not become faster for a while; 3 s at most.

    Looks are the protocol's measurements with few samples, its pauses between them included, so that a device whose
    clock falls with its heat is as cool afterwards as it will be between jobs.

    Parameters
    ----------
    time_reference
        Samples of the reference kernel by a protocol.
    clock
        In seconds.
    """
    look = protocol.model_copy(update={"repeats": min(LOOK_SAMPLES, protocol.repeats)})
    start_s = gained_s = clock()
    best, looks = float("inf"), 0
    while looks < STEADY_LOOKS or clock() - gained_s < STEADY_S:
        latency = statistics.median(time_reference(look))
        looks += 1
        if latency < best * (1 - LEAST_GAIN):
            best, looks, gained_s = latency, 0, clock()
        if clock() - start_s > LONGEST_S:
            return
