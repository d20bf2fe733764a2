"""Where figures come from: machine, load, versions and date."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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


# Which core it is, by vendor, family and first model of a range as the kernel tells them: a virtual machine's name for
# its CPU often does not say.
_CORES = {
    ("AuthenticAMD", 23): {0x00: "Zen", 0x30: "Zen 2"},
    ("AuthenticAMD", 25): {0x00: "Zen 3", 0x10: "Zen 4", 0x20: "Zen 3", 0x60: "Zen 4"},
    ("AuthenticAMD", 26): {0x00: "Zen 5"},
}
_INTEL = {79: "Broadwell", 85: "Skylake", 106: "Ice Lake", 143: "Sapphire Rapids", 173: "Granite Rapids"}
_INTEL |= {63: "Haswell", 207: "Emerald Rapids"}


def cpu_label(cpuinfo: str | None = None) -> str:
    """The CPU's name without trade marks and speeds, with its core, else its vectors: ``AMD EPYC (Zen 5)``.

    Parameters
    ----------
    cpuinfo
        Text of ``/proc/cpuinfo``, default this machine's.
    """
    text = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
    fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", text.partition("\n\n")[0], re.MULTILINE))
    name = re.sub(r"\(R\)|\(TM\)|\bCPU\b|\bProcessor\b|@.*|[<>:-]{2,}", "", fields.get("model name", cpu_model()))
    kind = _core(fields) or _vectors(fields)
    return " ".join(name.replace(":", "").split()) + (f" ({kind})" if kind else "")


def _core(fields: dict[str, str]) -> str | None:
    vendor, family, model = (fields.get(key, "0") for key in ("vendor_id", "cpu family", "model"))
    if (vendor, family) == ("GenuineIntel", "6"):
        return _INTEL.get(int(model))
    ranges = _CORES.get((vendor, int(family)), {})
    return ranges[max(first for first in ranges if first <= int(model))] if ranges else None


def _vectors(fields: dict[str, str]) -> str:
    flags = set(fields.get("flags", "").split())
    known = {"avx512f": "AVX-512", "amx_tile": "AMX"} if "avx512f" in flags else {"avx2": "AVX2"}
    return ", ".join(name for flag, name in known.items() if flag in flags)


def _installed() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
