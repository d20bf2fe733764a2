"""What devices are called in records and messages."""

from __future__ import annotations

from ofa_tvm.measurement.device_info import DeviceInfo

ID_LENGTH = 6


class DeviceNames:
    """By what devices say of themselves: two servers share no name, a board keeps its own whatever its server's port.

    Attributes
    ----------
    registered
        Where there are servers now; the name of one that has gone may be taken over.
    """

    def __init__(self, key: str) -> None:
        self.registered: set[str] = set()
        self._key = key
        self._owners: dict[str, str] = {}
        self._given: dict[tuple[str, str], str] = {}

    def of(self, info: DeviceInfo | None, address: str) -> str:
        """By what the device says about itself; by its address, too, if that does not tell it from all others."""
        if info is None or not info.hostname:
            return f"{self._key} at {address}"
        name = f"{self._key} {info.hostname}" + (f" ({info.id[:ID_LENGTH]})" if info.id else "")
        name += f": {info.cpu_model}" if info.cpu_model else ""
        if (name, address) not in self._given:
            taken = info.id is None or self._owners.get(name) in self.registered
            self._given[name, address] = f"{name} at {address}" if taken else name
            if not taken:
                self._owners[name] = address
        return self._given[name, address]
