"""How fast a device of a farm is, by the reference kernel."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

FIRST_REFERENCES = 6
NOTABLE_DIFFERENCE = 0.05


class Pace:
    """Latencies of the reference kernel on one device, before and after its chunks, in milliseconds."""

    def __init__(self) -> None:
        self._all_ms: list[float] = []
        self._first_ms: list[float] = []
        self._told = False

    @property
    def median_ms(self) -> float | None:
        """Of all latencies; None before the first chunk."""
        return statistics.median(self._all_ms) if self._all_ms else None

    @property
    def at_first_ms(self) -> float | None:
        """What later latencies are compared with; None before the first chunk."""
        return statistics.median(self._first_ms) if self._first_ms else None

    def is_better_at(self, latency_ms: float) -> bool:
        """Whether the device was slower at first."""
        return self.at_first_ms is not None and latency_ms < self.at_first_ms

    def differs_at(self, latency_ms: float, max_drift: float) -> str | None:
        """How a latency differs from what it was at first, if by more than so much of the smaller."""
        first_ms = self.at_first_ms
        if first_ms is None or max(first_ms, latency_ms) / min(first_ms, latency_ms) - 1 <= max_drift:
            return None
        return (
            f"its reference kernel took {first_ms:.4g} ms at first and takes {latency_ms:.4g} ms now, "
            f"which differs by more than {max_drift:.1%}"
        )

    def measured(self, around_ms: Sequence[float], all_ms: Sequence[float]) -> None:
        """A chunk is accepted: the latencies around it, and those of all attempts at it."""
        if len(self._first_ms) < FIRST_REFERENCES:
            self._first_ms.extend(around_ms)
        self._all_ms.extend(all_ms)

    def is_news(self) -> bool:
        """Whether nobody has been told yet that it has changed; asked once, it is no news any more."""
        told, self._told = self._told, True
        return not told

    def begin_anew(self) -> None:
        """It was slow at first; what comes next is its pace."""
        self._first_ms.clear()


def differences(latencies_ms: Mapping[str, float]) -> dict[str, str]:
    """What to say of each device that is slower than the fastest by more than is usual among equals, by its name."""
    fastest = min(latencies_ms, key=latencies_ms.__getitem__, default="")
    return {
        name: f"unequal devices: the reference kernel takes {latency_ms:.4g} ms on {name}, "
        f"{latency_ms / latencies_ms[fastest] - 1:.0%} more than the {latencies_ms[fastest]:.4g} ms on {fastest}; "
        "latencies of both are in the records, and compared as on the slowest"
        for name, latency_ms in latencies_ms.items()
        if latency_ms / latencies_ms[fastest] > 1 + NOTABLE_DIFFERENCE
    }
