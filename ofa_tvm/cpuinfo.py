"""What Linux says of a CPU in ``/proc/cpuinfo``."""

from __future__ import annotations


def cpu_features_of(cpuinfo: str) -> list[str]:
    """The features that the text of ``/proc/cpuinfo`` lists for any of its cores, sorted; the kernel's names."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return sorted({flag for key, _, flags in lines if key.strip() in ("flags", "Features") for flag in flags.split()})
