"""A cable between the host and a board: two ends of a veth pair, the board's in a network namespace of its own."""

from __future__ import annotations

import ipaddress
import json
import time
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
            if _exists(name):  # another board was quicker
                continue
            raise
        _ip("address", "add", f"{_address(number, 1)}/{PREFIX}", "dev", name)
        _ip("link", "set", name, "addrgenmode", "none", "up")
        return _address(number, 2)
    raise EmulationError(f"no network is left for an emulated board in {NETWORK}; stop others, or what else uses it")


def unplug(address: str, limit_s: float) -> None:
    """Wait for a dead board's cable to go with its namespace, and remove it if that takes too long."""
    name = _interface(int(address.split(".")[2]))
    deadline = time.monotonic() + limit_s
    while _exists(name):
        if time.monotonic() > deadline:
            _ip("link", "delete", name)
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


def _exists(interface: str) -> bool:
    return Path("/sys/class/net", interface).exists()


def _address(number: int, place: int) -> str:
    return str(NETWORK.network_address + 256 * number + place)
