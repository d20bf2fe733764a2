"""What both servers say of devices that are not this one: files as Linux shows them there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RPC = Path(__file__).parents[2] / "rpc"
FEATURES = "fp asimd evtstrm crc32 cpuid"


def arm_core(part: str) -> str:
    return (
        f"processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: {FEATURES}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n\n"
    )


SERIAL = "proc/device-tree/serial-number"
MACHINE_ID = "0123456789abcdef0123456789abcdef"
HASHED_ID = "da452730cb0ee6fd"

RASP4 = {
    "proc/cpuinfo": arm_core("0xd08") * 4 + "Revision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
    "proc/meminfo": "MemTotal:        3885396 kB\nMemFree:          123456 kB\nMemAvailable:    3301234 kB\n",
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1500000\n",
}
DEVICES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "rasp4": (
        RASP4,
        {
            "cpu_model": "Cortex-A72",
            "cpu_features": FEATURES.split(),
            "memory_total_mib": 3794,
            "memory_available_mib": 3223,
            "temperature_c": 48.3,
            "governor": "ondemand",
            "clock_mhz": 600,
            "max_clock_mhz": 1500,
            "emulated": False,
        },
    ),
    "rk3588": (
        {
            "proc/cpuinfo": arm_core("0xd05") * 4 + arm_core("0xd0b") * 4,
            "sys/class/thermal/thermal_zone0/temp": "41000\n",
            "sys/class/thermal/thermal_zone1/temp": "52900\n",
            "sys/class/thermal/thermal_zone2/temp": "no number\n",
        },
        {"cpu_model": "Cortex-A55 + Cortex-A76", "temperature_c": 52.9},
    ),
    "cold": ({"sys/class/thermal/thermal_zone0/temp": "-5500\n"}, {"temperature_c": -5.5}),
    "emulated": ({**RASP4, "etc/ofa_tvm-emulated": ""}, {"emulated": True}),
    "intel": (
        {"proc/cpuinfo": 'vendor_id : GenuineIntel\nmodel name : A "Core"\nflags\t: fpu avx2\n\nflags : other\n'},
        {"cpu_model": 'A "Core"', "cpu_features": ["fpu", "avx2"]},
    ),
    "unknown core": (
        {"proc/cpuinfo": "Features\t: fp\nCPU implementer\t: 0x61\nCPU part\t: 0xd08\n"},
        {"cpu_model": None, "cpu_features": ["fp"]},
    ),
    "another maker's core after Arm's": (
        {"proc/cpuinfo": arm_core("0xd05") + "CPU implementer\t: 0x51\nCPU part\t: 0xd08\n"},
        {"cpu_model": "Cortex-A55"},
    ),
    "a name within a name": (
        {"proc/cpuinfo": arm_core("0xd42") + arm_core("0xd41") + arm_core("0xd42")},
        {"cpu_model": "Cortex-A78AE + Cortex-A78"},
    ),
    "nameless": ({"proc/cpuinfo": "model name\t: \n" + arm_core("0xd08")}, {"cpu_model": "Cortex-A72"}),
    "blanks at the end": ({"proc/cpuinfo": "model name\t: Some CPU  \n"}, {"cpu_model": "Some CPU"}),
    "unknown clock": (
        {"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "<unknown>\n", "proc/meminfo": "MemTotal: some kB\n"},
        {"clock_mhz": None, "memory_total_mib": None},
    ),
    "serial number": ({SERIAL: "10000000ab12cd34\0", "etc/machine-id": MACHINE_ID}, {"id": "10000000ab12cd34"}),
    "serial number elsewhere": (
        {"sys/firmware/devicetree/base/serial-number": "abc-1\0rest", "etc/machine-id": MACHINE_ID},
        {"id": "abc-1"},
    ),
    "serial number of zeros": ({SERIAL: "0000000000000000\0", "etc/machine-id": f"{MACHINE_ID}\n"}, {"id": HASHED_ID}),
    "unprintable serial number": ({SERIAL: "a b\x7f\0", "etc/machine-id": MACHINE_ID}, {"id": HASHED_ID}),
    "long serial number": ({SERIAL: "5" * 300}, {"id": "5" * 128}),
    "uninitialized": ({SERIAL: "", "etc/machine-id": "uninitialized\n"}, {"id": None}),
    "machine id of another length": ({"etc/machine-id": f"{MACHINE_ID}0\n"}, {"id": None}),
    "bare": (
        {},
        {
            "id": None,
            "cpu_model": None,
            "cpu_features": [],
            "memory_total_mib": None,
            "memory_available_mib": None,
            "temperature_c": None,
            "governor": None,
            "clock_mhz": None,
            "max_clock_mhz": None,
            "emulated": False,
        },
    ),
}


@pytest.mark.parametrize("device", DEVICES)
def test_both_servers_say_the_same(device: str, tmp_path: Path, build: Callable[..., Path]):
    files, expected = DEVICES[device]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    python, native = (
        _info([sys.executable, RPC / "device_info.py", tmp_path]),
        _info([build(), "--device-info", tmp_path]),
    )
    assert {key: python[key] for key in expected} == expected
    assert list(python) == list(native)
    own = {"server", "versions"}
    assert {key: python[key] for key in python.keys() - own} == {key: native[key] for key in native.keys() - own}


def test_arm_parts_are_the_same_in_both_tables():
    sys.path.insert(0, str(RPC))
    try:
        from device_info import ARM_PARTS  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(RPC))
    native = (RPC / "server" / "device_info.c").read_text()
    assert all(f'{{"{part}", "{name}"}}' in native for part, name in ARM_PARTS.items())
    assert native.count('{"0xd') == len(ARM_PARTS)


def _info(command: list[Any]) -> dict[str, Any]:
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(run.stdout)
