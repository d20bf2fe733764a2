"""Where figures come from: machine, load, versions and date."""

from __future__ import annotations

import contextlib
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import ofa_tvm
from ofa_tvm.cpuinfo import usable_cpus
from ofa_tvm.measurement.devices import cpu_model


def load_average() -> float:
    """Processes that wanted to run during the last minute, on average; over the number of CPUs, figures suffer."""
    return round(os.getloadavg()[0], 2)


_PACKAGES = ("apache-tvm", "onnxruntime", "openvino", "executorch", "torch", "numpy")


def machine() -> dict[str, object]:
    """CPU, its number here, versions and date, as plain JSON values."""
    return {
        "cpu": cpu_model(),
        "cpus": usable_cpus(),
        "versions": {
            "ofa_tvm": ofa_tvm.__version__,
            "python": platform.python_version(),
            **_installed(),
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _installed() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
