"""Warnings of devices whose latencies would be those of another state than their best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from ofa_tvm.measurement.device_info import DeviceInfo
from ofa_tvm.measurement.device_state import state_problems, warnings_before_measuring
from ofa_tvm.targets import load_target

TARGET = load_target("rasp4")
FASTEST = TARGET.cpu.max_clock_mhz or 0


@dataclass(frozen=True)
class FakeDevice:
    info: DeviceInfo | None
    name: str = "rasp4 bench"
    emulated: bool = False


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"governor": "powersave"}, "governor powersave"),
        ({"governor": "ondemand", "clock_mhz": 600, "max_clock_mhz": FASTEST}, "governor ondemand"),
        ({"governor": "performance", "clock_mhz": 600, "max_clock_mhz": FASTEST}, f"at 600 MHz of {FASTEST}"),
        ({"governor": "performance", "max_clock_mhz": 600}, f"goes to 600 MHz, a rasp4 goes to {FASTEST}"),
    ],
)
def test_a_clock_that_is_not_at_its_best_is_said_by_profile_and_check_alike(info: dict[str, Any], words: str):
    (warning,) = warnings_before_measuring([FakeDevice(DeviceInfo(**info))], TARGET)
    assert warning.startswith("rasp4 bench: ")
    assert words in warning
    assert any(words in problem for problem in state_problems(DeviceInfo(**info), TARGET))


@pytest.mark.parametrize(
    "device",
    [
        FakeDevice(None),
        FakeDevice(DeviceInfo()),
        FakeDevice(DeviceInfo(governor="performance", clock_mhz=FASTEST, max_clock_mhz=FASTEST)),
        FakeDevice(DeviceInfo(governor="powersave"), emulated=True),
    ],
)
def test_no_warning_without_a_reason(device: FakeDevice):
    assert warnings_before_measuring([device], TARGET) == []
