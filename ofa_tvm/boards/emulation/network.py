"""A cable between the host and a board: two ends of a veth pair, the board's in a network namespace of its own."""

from __future__ import annotations

import ipaddress
import json
import time
from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.boards.emulation.host import run
from ofa_tvm.errors import EmulationError

NETWORK = ipaddress.ip_network("10.213.0.0/16")
"""Board number ``x`` has 10.213.x.2, and the host's end of its cable 10.213.x.1; nothing is routed beyond it."""
PREFIX = 30
NUMBERS = range(256)
COMMAND_LIMIT_S = 10.0
POLL_PERIOD_S = 0.02


def plug_in(pid: int) -> str:
    """Lay a cable into the network namespace of process `pid`, where it is ``eth0``; the board's address.

    Whoever first makes the interface of a number has that number. The kernel removes it with the namespace.

    Raises
    ------
    EmulationError
        No network is free, or the host refuses.
    """
    for number in _free_numbers():
        name = _interface(number)
        try:
            _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        except EmulationError:
            if _index(name) is not None:  # another board was quicker
                continue
            raise
        _ip("address", "add", f"{_address(number, 1)}/{PREFIX}", "dev", name)
        _ip("link", "set", name, "addrgenmode", "none", "up")
        return _address(number, 2)
    raise EmulationError(f"no network is left for an emulated board in {NETWORK}; stop others, or what else uses it")


@dataclass(frozen=True, slots=True)
class Cable:
    """The host's end of a running board's cable, told by its index from a later one of the same name."""

    interface: str
    index: str

    @classmethod
    def of(cls, address: str) -> Cable | None:
        """The cable of the board with this address, which must be running."""
        interface = _interface(int(address.split(".")[2]))
        index = _index(interface)
        return None if index is None else cls(interface, index)

    def await_end(self, limit_s: float) -> None:
        """Wait for the kernel to remove it after the board's end; remove it if that takes longer than `limit_s`."""
        deadline = time.monotonic() + limit_s
        while _index(self.interface) == self.index:
            if time.monotonic() > deadline:  # somebody else keeps the network namespace
                _ip("link", "delete", self.interface)
                return
            time.sleep(POLL_PERIOD_S)


def _free_numbers() -> list[int]:
    """Numbers in whose network the host has no route: to a board, or to something else."""
    routes = json.loads(_ip("-json", "-4", "route", "show", "table", "all", "root", str(NETWORK)) or "[]")
    taken = [ipaddress.ip_network(route["dst"], strict=False) for route in routes]
    return [
        number
        for number in NUMBERS
        if not any(ipaddress.ip_network(f"{_address(number, 0)}/{PREFIX}").overlaps(network) for network in taken)
    ]


def _ip(*arguments: str) -> str:
    return run(["ip", *arguments], COMMAND_LIMIT_S)


def _interface(number: int) -> str:
    return f"ofa-board{number}"


def _index(interface: str) -> str | None:
    """The number that the kernel gives to one interface alone; None if there is none of this name."""
    try:
        return Path("/sys/class/net", interface, "ifindex").read_text()
    except OSError:
        return None


def _address(number: int, place: int) -> str:
    return str(NETWORK.network_address + 256 * number + place)
