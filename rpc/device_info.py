"""What is known of this device: from the standard library, /proc and /sys alone.

``python device_info.py [ROOT]`` prints it as JSON. The native server gives the same keys (server/device_info.c).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from device_id import device_id

PACKAGES = ("apache-tvm", "apache-tvm-ffi", "numpy")

# Arm's part numbers, which /proc/cpuinfo gives in place of a name; the same table is in server/device_info.c.
ARM = "0x41"
ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
    "0xd48": "Cortex-X2",
    "0xd49": "Neoverse-N2",
    "0xd4d": "Cortex-A715",
    "0xd4e": "Cortex-X3",
    "0xd4f": "Neoverse-V2",
    "0xd80": "Cortex-A520",
    "0xd81": "Cortex-A720",
    "0xd82": "Cortex-X4",
}


def device_info(root: Path = Path("/")) -> str:
    """JSON, null where unknown; `root` is where /proc, /sys and /etc are looked for."""
    cpu = _pairs(root / "proc/cpuinfo")
    memory = dict(_pairs(root / "proc/meminfo"))
    clocks = root / "sys/devices/system/cpu/cpu0/cpufreq"
    return json.dumps(
        {
            "server": "python",
            "hostname": platform.node(),
            "id": device_id(root),
            "system": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "cpu_model": _cpu_model(cpu),
            "cpu_features": next((value.split() for name, value in cpu if name in ("flags", "Features")), []),
            "cores": len(os.sched_getaffinity(0)),  # those the server was given, such as by taskset
            "memory_total_mib": _thousandths(memory.get("MemTotal"), 1024),
            "memory_available_mib": _thousandths(memory.get("MemAvailable"), 1024),
            "temperature_c": _temperature(root),
            "governor": _first_line(clocks / "scaling_governor"),
            "clock_mhz": _thousandths(_first_line(clocks / "scaling_cur_freq")),
            "max_clock_mhz": _thousandths(_first_line(clocks / "cpuinfo_max_freq")),
            "emulated": (root / "etc/ofa_tvm-emulated").exists(),
            "versions": _versions(),
        }
    )


def _pairs(path: Path) -> list[tuple[str, str]]:
    """The lines ``name : value`` of a file of the kernel's; none if it is not there."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [(name.strip(), value.strip()) for name, colon, value in pairs if colon]


def _cpu_model(cpu: list[tuple[str, str]]) -> str | None:
    """The model's name, or those of all kinds of Arm core."""
    parts: dict[str, None] = {}
    implementer = ""
    for name, value in cpu:
        if name == "model name" and value:
            return value
        if name == "CPU implementer":
            implementer = value
        elif name == "CPU part" and implementer == ARM and value in ARM_PARTS:
            parts[ARM_PARTS[value]] = None
    return " + ".join(parts) or None


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").partition("\n")[0] or None
    except OSError:
        return None


def _thousandths(text: str | None, divisor: int = 1000) -> int | None:
    """MHz of kHz, or MiB of the kernel's ``kB``."""
    number = (text or "").split(" ")[0]
    return int(number) // divisor if number.isdigit() else None


def _temperature(root: Path) -> float | None:
    """Of the hottest zone."""
    degrees = []
    for zone in root.glob("sys/class/thermal/thermal_zone*/temp"):
        with contextlib.suppress(ValueError):
            degrees.append(int(_first_line(zone) or "") / 1000)
    return round(max(degrees), 1) if degrees else None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


if __name__ == "__main__":
    print(device_info(Path(sys.argv[1] if len(sys.argv) > 1 else "/")))
