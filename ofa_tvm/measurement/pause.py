"""For how long a device is left alone that was set aside."""

from __future__ import annotations

from ofa_tvm.measurement.limits import Limits


class Pause:
    """Longer each time, until the device has measured something in between."""

    def __init__(self) -> None:
        self._length_s = 0.0
        self._begun = self._until = float("-inf")

    @property
    def length_s(self) -> float:
        """Of the last one, in seconds; 0 if the device has measured since."""
        return self._length_s

    def lasts(self, now_s: float) -> bool:
        """Whether the device is to be left to rest, if others can work."""
        return now_s < self._until

    def is_fresh(self, now_s: float, limits: Limits) -> bool:
        """Whether it is too early for a trial even if no other device can work."""
        return now_s < min(self._until, self._begun + limits.retry_s)

    def begin(self, now_s: float, limits: Limits) -> bool:
        """Set aside; False if that was so before, and this only was a trial for want of other devices."""
        renewed = not self.lasts(now_s)
        if renewed:
            self._length_s = min(max(limits.pause_s, 2 * self._length_s), limits.longest_pause_s)
        self._begun, self._until = now_s, now_s + self._length_s
        return renewed

    def end(self) -> None:
        """The device has passed a trial, which may have come early; if it is set aside again, that is for longer."""
        self._until = float("-inf")

    def forget(self) -> None:
        """The device has measured: the next one is short again."""
        self._length_s = 0.0
