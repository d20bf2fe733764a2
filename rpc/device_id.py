"""What tells this device from others, and stays. The native server says the same (server/device_id.c)."""

from __future__ import annotations

import re
from pathlib import Path

LONGEST_ID = 128

# FNV-1a of 64 bits, so that the native server needs no library for it.
FNV_BASIS, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
PREFIX = b"ofa_tvm:"


def device_id(root: Path) -> str | None:
    """The serial number in the device tree, else a hash of the machine id, which is not for others to see."""
    for folder in ("proc/device-tree", "sys/firmware/devicetree/base"):
        serial = _start(root / folder / "serial-number").partition(b"\0")[0]
        if re.fullmatch(rb"[!-~]+", serial) and serial.strip(b"0"):  # all zeros where nobody wrote one
            return serial.decode()
    machine_id = _start(root / "etc/machine-id").partition(b"\n")[0]
    if not re.fullmatch(rb"[0-9a-f]{32}", machine_id):
        return None
    number = FNV_BASIS
    for byte in PREFIX + machine_id:
        number = (number ^ byte) * FNV_PRIME % (1 << 64)
    return f"{number:016x}"


def _start(path: Path) -> bytes:
    """The first bytes of a file; none if it is not there."""
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_ID)
    except OSError:
        return b""
