"""How fast the devices of a target are against each other, so that their latencies can be compared."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable

from ofa_tvm.measurement.protocol import Measurement


class Speeds:
    """Learns from measurements how long each device takes for the reference kernel.

    One board is a few percent faster than the next, or half as fast again; which of them got a job must not decide
    which candidate wins. So a latency is compared, and learnt from, as the slowest of the devices would have taken it:
    what meets a budget there meets it on all. Latencies of a single device stay as they were measured; its reference
    kernel varies from chunk to chunk by as much as candidates differ.
    """

    def __init__(self, measurements: Iterable[Measurement | None] = ()) -> None:
        self._references_ms: defaultdict[str, list[float]] = defaultdict(list)
        self._medians_ms: dict[str, float] = {}
        for measurement in measurements:
            self.learn(measurement)

    def learn(self, measurement: Measurement | None) -> None:
        """Take in what a device took for the reference kernel around a measurement; nothing from one that failed."""
        if measurement is None:
            return
        self._references_ms[measurement.device].append(measurement.reference_ms)
        self._medians_ms.pop(measurement.device, None)

    def comparable_ms(self, measurement: Measurement) -> float:
        """Median latency in milliseconds as on the slowest of the devices; raw from a device never learnt of."""
        if len(self._references_ms) < 2 or measurement.device not in self._references_ms:
            return measurement.median_ms
        slowest_ms = max(map(self._median_ms, self._references_ms))
        return measurement.median_ms * slowest_ms / self._median_ms(measurement.device)

    def _median_ms(self, device: str) -> float:
        if device not in self._medians_ms:
            self._medians_ms[device] = statistics.median(self._references_ms[device])
        return self._medians_ms[device]
