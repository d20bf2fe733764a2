"""What `devices check` finds: on this very host, and on devices that say odd things of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from ofa_tvm.boards.check import DeviceReport, check_devices, examine
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.kernel_check import reference_output
from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.cpuinfo import cpu_features_of
from ofa_tvm.errors import MeasurementError, UsageError
from ofa_tvm.measurement.device import Device, Float32Array
from ofa_tvm.measurement.device_info import DeviceInfo
from ofa_tvm.measurement.job import Job, KernelJob, SubnetJob
from ofa_tvm.targets import MeasurementProtocol, Target, load_target


class Told(Device):
    """Computes the reference kernel with numpy, off by a factor, and says of itself what it was told to."""

    def __init__(self, info: DeviceInfo | None, factor: float = 1.0) -> None:
        self._info, self._factor = info, factor

    @property
    def name(self) -> str:
        return "told"

    @property
    def emulated(self) -> bool:
        return False

    @property
    def info(self) -> DeviceInfo | None:
        return self._info

    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        return (2.0, 1.0, 3.0)

    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        raise NotImplementedError

    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
        if np.isnan(self._factor):
            raise MeasurementError("the kernel crashed")
        return (self._factor * reference_output(tuple(inputs)),)

    def round_trips_ms(self, count: int) -> tuple[float, ...]:
        return tuple(float(number) for number in range(1, count + 1))


@pytest.fixture(scope="module")
def target() -> Target:
    quick = MeasurementProtocol(warmup_runs=1, repeats=3, min_repeat_ms=0.1)
    return load_target("local").model_copy(update={"measurement": quick})


@pytest.fixture(scope="module")
def bench(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelBench]:
    with open_bench(target, tmp_path_factory.mktemp("check") / "records.jsonl") as bench:
        yield bench


@pytest.fixture(scope="module")
def here(bench: KernelBench) -> DeviceInfo:
    """What this host says of itself, with nothing wrong about it."""
    (device,) = bench.farm.open_devices
    assert device.info is not None
    healthy = {"governor": "performance", "temperature_c": 40.0, "memory_available_mib": 4000, "cores": 4}
    return device.info.model_copy(update=healthy)


def test_this_host_is_fit() -> None:
    (report,) = check_devices(load_target("local"), None, lambda _line: None)
    assert report.fit, report.problems
    assert report.kernel_error is not None and report.kernel_error < 1e-5
    assert report.kernel_ms is not None and report.kernel_ms > 0
    assert report.round_trip_ms is not None and report.round_trip_ms > 0
    assert report.info is not None
    assert set(report.info.cpu_features or ()) == set(cpu_features_of(Path("/proc/cpuinfo").read_text()))


def test_a_healthy_device_has_no_problems(target: Target, bench: KernelBench, here: DeviceInfo) -> None:
    report = examine(Told(here), target, bench)
    assert report.problems == []
    assert (report.fit, report.kernel_ms) == (True, 2.0)
    assert report.round_trip_ms == pytest.approx(25.5)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"governor": "ondemand"}, "governor ondemand: .*performance"),
        ({"temperature_c": 81.4}, "81 degrees Celsius"),
        ({"memory_available_mib": 120}, "120 MiB"),
        ({"versions": {"apache-tvm": "0.26.0"}}, "apache-tvm 0.26.0 there, .* here; set the board up again"),
    ],
)
def test_what_makes_figures_worse_is_named(
    target: Target, bench: KernelBench, here: DeviceInfo, change: dict[str, object], problem: str
) -> None:
    report = examine(Told(here.model_copy(update=change)), target, bench)
    assert_only(report, problem, fit=True)


def test_a_slow_clock_and_few_cores_are_named(target: Target, bench: KernelBench, here: DeviceInfo) -> None:
    demanding = target.model_copy(update={"threads": 8, "cpu": target.cpu.model_copy(update={"max_clock_mhz": 2000})})
    slow = here.model_copy(update={"max_clock_mhz": 1200})
    report = examine(Told(slow), demanding, bench)
    assert report.fit
    assert [problem.split(";")[0] for problem in report.problems] == [
        "its clock goes to 1200 MHz, a local goes to 2000",
        "4 cores for kernels of 8 threads",
    ]
    assert examine(Told(here.model_copy(update={"max_clock_mhz": 1500})), demanding, bench).problems == [
        "4 cores for kernels of 8 threads"
    ]


def test_fewer_cores_than_the_board_has_are_named(target: Target, bench: KernelBench, here: DeviceInfo) -> None:
    larger = target.model_copy(update={"cpu": target.cpu.model_copy(update={"cores": 6})})
    assert_only(examine(Told(here), larger, bench), "its server may use 4 cores, a local has 6", fit=True)
    same = target.model_copy(update={"cpu": target.cpu.model_copy(update={"cores": 4})})
    assert examine(Told(here), same, bench).problems == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"machine": "riscv64"}, "it is riscv64, the target compiles for"),
        ({"cpu_features": ("fpu", "sse")}, "its CPU lacks .*, which code for .* uses"),
    ],
)
def test_another_cpu_is_unfit_and_runs_nothing(
    target: Target, bench: KernelBench, here: DeviceInfo, change: dict[str, object], problem: str
) -> None:
    report = examine(Told(here.model_copy(update=change)), target, bench)
    assert_only(report, problem, fit=False)
    assert report.kernel_ms is None


@pytest.mark.parametrize(
    ("factor", "problem"), [(1.01, "reference kernel on told: relative error"), (float("nan"), "the kernel crashed")]
)
def test_wrong_numbers_are_unfit(
    target: Target, bench: KernelBench, here: DeviceInfo, factor: float, problem: str
) -> None:
    assert_only(examine(Told(here, factor), target, bench), problem, fit=False)


def test_a_server_that_cannot_tell_is_still_tried(target: Target, bench: KernelBench) -> None:
    report = examine(Told(None), target, bench)
    assert_only(report, "can't say what it is", fit=True)
    assert report.kernel_error == 0


def test_a_target_without_a_device_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="'null' has no device to check"):
        check_devices(load_target("null"), None, lambda _line: None)


def assert_only(report: DeviceReport, problem: str, fit: bool) -> None:
    (found,) = report.problems
    assert re.search(problem, found), found
    assert report.fit is fit
