"""A look at every free device of a target before anything is measured there."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ofa_tvm.compiler.cpu_features import architecture_of, unsupported_features
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.errors import MeasurementError, NumericalMismatchError, UsageError
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.device_info import DeviceInfo
from ofa_tvm.measurement.device_state import state_problems
from ofa_tvm.targets import Target, missing_features

ROUND_TRIPS = 50
COMPARED_PACKAGES = ("apache-tvm", "apache-tvm-ffi")


@dataclass(slots=True)
class DeviceReport:
    """What was found on one device.

    Attributes
    ----------
    fit
        Whether its figures can be trusted to be those of the right code; the other problems only make them worse.
    round_trip_ms
        Median of an RPC call that does nothing.
    kernel_ms, kernel_error
        Median latency of the reference kernel, and its relative error against numpy.
    """

    name: str
    emulated: bool
    info: DeviceInfo | None
    fit: bool = True
    round_trip_ms: float | None = None
    kernel_ms: float | None = None
    kernel_error: float | None = None
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "name": self.name,
            "emulated": self.emulated,
            "fit": self.fit,
            "problems": self.problems,
            "round_trip_ms": self.round_trip_ms,
            "kernel_ms": self.kernel_ms,
            "kernel_error": self.kernel_error,
            "info": self.info.model_dump(mode="json") if self.info else None,
        }

    def unfit(self, problem: str) -> None:
        """Note a problem that makes the device of no use."""
        self.fit = False
        self.problems.append(problem)


def check_devices(target: Target, tracker: str | None, say: Callable[[str], None]) -> list[DeviceReport]:
    """Look at each device of the target that is free now.

    Raises
    ------
    UsageError
        The target has no device.
    InvalidTargetError, CompileError, DeviceError
        As `ofa_tvm.compiler.open_bench.open_bench`.
    """
    if target.device.kind == "null":
        raise UsageError(f"target {target.name!r} has no device to check: its latencies are computed")
    with (
        tempfile.TemporaryDirectory(prefix="ofa_tvm.") as folder,
        open_bench(target, Path(folder) / "records.jsonl", tracker, say, warn_of_clocks=False) as bench,
    ):
        return [examine(device, target, bench) for device in bench.farm.open_devices]


def examine(device: Device, target: Target, bench: KernelBench) -> DeviceReport:
    """Look at one device of the bench's target."""
    report = DeviceReport(device.name, device.emulated, device.info)
    if device.info is None:
        report.problems.append("its RPC server can't say what it is (TVM's own?); rpc/server.py can")
    else:
        _check_cpu(report, device.info, target, bench)
        _check_versions(report, device.info)
        report.problems += state_problems(device.info, target, emulated=device.emulated)
    if report.fit:  # a kernel with instructions the CPU lacks would only crash
        _check_kernel(report, device, target, bench)
    return report


def _check_cpu(report: DeviceReport, info: DeviceInfo, target: Target, bench: KernelBench) -> None:
    tvm_target = bench.toolchain.tvm_target
    architecture = architecture_of(tvm_target)
    if info.machine and info.machine != architecture:
        report.unfit(f"it is {info.machine}, the target compiles for {architecture}; check --key, or the target")
        return
    features = info.cpu_features or ()
    if lacking := sorted(
        {*missing_features(target, features), *unsupported_features(tvm_target, architecture, features)}
    ):
        cpu = tvm_target.attrs.get("mcpu", "its CPU")
        report.unfit(f"its CPU lacks {', '.join(lacking)}, which code for {cpu} uses; take the target of this board")


def _check_versions(report: DeviceReport, info: DeviceInfo) -> None:
    theirs = info.versions or {}
    for package in COMPARED_PACKAGES:
        if theirs.get(package) and theirs[package] != version(package):
            report.problems.append(
                f"{package} {theirs[package]} there, {version(package)} here; set the board up again"
            )


def _check_kernel(report: DeviceReport, device: Device, target: Target, bench: KernelBench) -> None:
    try:
        trips_ms = device.round_trips_ms(ROUND_TRIPS)
        report.round_trip_ms = statistics.median(trips_ms) if trips_ms else None
        report.kernel_error = bench.prove(device)
        device.warm_up(bench.reference, target.measurement)
        report.kernel_ms = statistics.median(device.time(bench.reference, target.measurement))
    except (MeasurementError, NumericalMismatchError) as error:
        report.unfit(str(error))
