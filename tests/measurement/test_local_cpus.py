"""This computer as a device, under an affinity mask or a quota."""

from __future__ import annotations

import os

import pytest

from ofa_tvm.errors import UsageError
from ofa_tvm.measurement import devices
from ofa_tvm.targets import load_target


def test_more_threads_than_the_mask_allows_are_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
    monkeypatch.setattr(devices, "local_farm", lambda _target: pytest.fail("started a farm"))
    target = load_target("local").model_copy(update={"threads": 2})
    with (
        pytest.raises(UsageError, match=r"local: threads: 2, but this command may use 1 of the CPUs") as caught,
        devices.open_farm(target),
    ):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("quota", "said"), [(None, 0), (0.5, 1), (1.0, 0), (8.0, 0)])
def test_a_part_of_a_cpu_is_named(monkeypatch: pytest.MonkeyPatch, quota: float | None, said: int) -> None:
    monkeypatch.setattr(devices, "cpu_quota", lambda: quota)
    lines: list[str] = []
    devices._check_cpus(load_target("local"), lines.append)
    assert ["may use 50% of a CPU" in line for line in lines] == [True] * said
