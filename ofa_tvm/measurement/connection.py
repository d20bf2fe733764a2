"""Where a device of a farm is, and whether it can be reached."""

from __future__ import annotations

from ofa_tvm.measurement.device import Device


class Connection:
    """To one device; it may be lost and made anew, at another address too.

    Parameters
    ----------
    address
        Where the device is offered.
    """

    def __init__(self, address: str) -> None:
        self._address: str | None = address
        self._name = address
        self._board: str | None = None
        self._emulated = False
        self._met = False
        self._device: Device | None = None
        self._missed_since: float | None = None
        self._last_seen = float("-inf")

    @property
    def address(self) -> str | None:
        """Where it was offered last; None once another device was found there."""
        return self._address

    @property
    def name(self) -> str:
        """As records have it; the address until it has been connected to."""
        return self._name

    @property
    def board(self) -> str | None:
        """What tells its board from all others, if that is known."""
        return self._board

    @property
    def emulated(self) -> bool:
        """Whether its latencies say nothing about real hardware."""
        return self._emulated

    @property
    def was_made(self) -> bool:
        """Whether it has been connected to at least once."""
        return self._met

    @property
    def device(self) -> Device | None:
        """What it leads to; None while not connected."""
        return self._device

    @property
    def is_open(self) -> bool:
        """Whether the device can take jobs."""
        return self._device is not None and self._device.is_open

    @property
    def is_missed(self) -> bool:
        """Whether it broke amid a chunk, and the device is waited for."""
        return self._missed_since is not None

    def leads_to(self, device: Device) -> bool:
        """Whether this is what a new connection has led to."""
        return not self._met or (self._name, self._board) == (device.name, board_of(device))

    def seen_since(self, time_s: float) -> bool:
        """Whether the device was there after that."""
        return self._last_seen > time_s

    def missed_for(self, now_s: float) -> float:
        """Seconds since it was first missed; 0 if it isn't."""
        return 0.0 if self._missed_since is None else now_s - self._missed_since

    def made(self, address: str, device: Device) -> None:
        """It leads to a device again, or for the first time; one from before ends."""
        self.drop()
        self._address, self._name, self._board = address, device.name, board_of(device)
        self._emulated, self._device, self._met, self._missed_since = device.emulated, device, True, None

    def address_taken(self) -> None:
        """Another device was found where this one was."""
        self._address = None

    def seen(self, now_s: float) -> None:
        """The device is there."""
        self._last_seen = now_s

    def missed(self, now_s: float) -> None:
        """It is broken, and there is a chunk to go on with."""
        self._missed_since = now_s if self._missed_since is None else self._missed_since

    def not_missed(self) -> None:
        """Nobody waits for the device any more."""
        self._missed_since = None

    def drop(self) -> None:
        """End it."""
        device, self._device = self._device, None
        if device is not None:
            device.close()


def board_of(device: Device) -> str | None:
    """What tells the board from all others, if it says so."""
    return device.info.id if device.info is not None else None
