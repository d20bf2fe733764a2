"""What Linux says of a CPU in ``/proc/cpuinfo``, by which names, and how many CPUs this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Instruction-set features of LLVM that an operating system or hypervisor may hide, with the kernel's
# name for each. Tuning flags (``fast-*``) and privileged instructions are no concern of generated code.
LINUX_FLAGS = {
    "x86_64": {
        **{name: name for name in ("avx", "avx2", "fma", "f16c", "bmi2", "ssse3", "popcnt", "movbe", "adx", "gfni")},
        **{name: name for name in ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "vaes", "vpclmulqdq")},
        **{name: name for name in ("avx512ifma", "avx512vbmi", "sse4a", "xop", "fma4", "rdpid", "wbnoinvd")},
        **{f"avx512{name}": f"avx512_{name}" for name in ("bf16", "bitalg", "vbmi2", "vnni", "vp2intersect")},
        **{"avx512vpopcntdq": "avx512_vpopcntdq", "avx512fp16": "avx512_fp16", "avxvnni": "avx_vnni"},
        **{f"amx-{name}": f"amx_{name}" for name in ("tile", "int8", "bf16")},
        **{"sse3": "pni", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "bmi": "bmi1", "lzcnt": "abm", "sha": "sha_ni"},
        **{name: name for name in ("movdiri", "movdir64b", "clwb", "clflushopt", "rdpru", "mwaitx", "rdseed")},
    },
    "aarch64": {
        **{"fp-armv8": "fp", "neon": "asimd", "dotprod": "asimddp", "rdm": "asimdrdm"},
        **{"fullfp16": "asimdhp", "fp16fml": "asimdfhm", "complxnum": "fcma", "jsconv": "jscvt", "fptoint": "frint"},
        **{name: name for name in ("i8mm", "bf16", "sve", "sve2", "sme", "aes", "sha2", "sha3", "sm4")},
        **{"lse": "atomics", "lse2": "uscat", "crc": "crc32", "rcpc": "lrcpc", "rcpc-immo": "ilrcpc"},
        **{"flagm": "flagm", "altnzcv": "flagm2", "mops": "mops", "cssc": "cssc"},
    },
}


def cpu_features_of(cpuinfo: str) -> list[str]:
    """The features that the text of ``/proc/cpuinfo`` lists for any of its cores, sorted; the kernel's names."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return sorted({flag for key, _, flags in lines if key.strip() in ("flags", "Features") for flag in flags.split()})


def usable_cpus(root: Path = Path("/")) -> int:
    """How many CPUs this process can keep busy, by its affinity mask and its control group's quota; at least one.

    A part of a CPU counts for nothing: a thread more would be stopped for a part of the time, and the others wait for
    it.

    Parameters
    ----------
    root
        Where ``/proc`` and ``/sys`` are looked for.
    """
    allowed, quota = len(os.sched_getaffinity(0)), cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that the control groups around this process grant it; None for no limit.

    Such as 0.5, for half of each period, by systemd's ``CPUQuota=50%`` or ``docker run --cpus 0.5``.
    """
    quotas = [quota for folder in _control_groups(root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _control_groups(root: Path) -> Iterator[Path]:
    """Folders of the groups that this process is in and of those around them, of both versions of control groups."""
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            roots = [mounts, mounts / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [mounts / controllers, mounts / "cpu"]
        else:
            continue
        inner = Path(path.lstrip("/"))
        for folder in (inner, *inner.parents) if ".." not in inner.parts else (Path(),):
            yield from (mount / folder for mount in roots)


def _quota_of(group: Path) -> float | None:
    texts = _read(group / "cpu.max").split() or [
        *_read(group / "cpu.cfs_quota_us").split(),
        *_read(group / "cpu.cfs_period_us").split(),
    ]
    try:
        quota_us, period_us = map(int, texts)
    except ValueError:  # none, or "max"
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
