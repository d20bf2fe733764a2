"""Where figures come from: machine, load, versions and date."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version

import ofa_tvm
from ofa_tvm.measurement.devices import cpu_model


def load_average() -> float:
    """Processes that wanted to run during the last minute, on average; over the number of CPUs, figures suffer."""
    return round(os.getloadavg()[0], 2)


def machine() -> dict[str, object]:
    """CPU, its number here, versions and date, as plain JSON values."""
    return {
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "versions": {
            "ofa_tvm": ofa_tvm.__version__,
            "python": platform.python_version(),
            **{package: version(package) for package in ("apache-tvm", "onnxruntime", "torch", "numpy")},
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
