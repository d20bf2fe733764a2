"""Whether this machine can run a bundle's library, told before the library gets a chance to crash."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from ofa_tvm.bundle.manifest import LIBRARY, Manifest
from ofa_tvm.cpuinfo import LINUX_FLAGS, cpu_features_of
from ofa_tvm.errors import InvalidBundleError

_CPUINFO = Path("/proc/cpuinfo")

# ELF's e_machine (the System V ABI's registry) by the name that uname gives the architecture.
_ELF_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 164: "hexagon", 183: "aarch64", 243: "riscv64"}

# Vector extensions that a code generator reaches for in a float network, by LLVM's name.
# Only those that every kernel in use reports: a flag that an old kernel does not know must not refuse a bundle.
# What is not here, the trial run finds out (`ofa_tvm.bundle.trial`).
_VECTOR_EXTENSIONS = {
    "x86_64": ("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vnni",
               "avx512bf16", "sse4.1", "sse4.2"),
    "aarch64": ("neon", "dotprod", "fullfp16", "sve", "sve2", "i8mm"),
}  # fmt: skip
_LINUX_FLAGS = {name: LINUX_FLAGS[cpu][name] for cpu, names in _VECTOR_EXTENSIONS.items() for name in names}


def vector_features(llvm_features: Iterable[str]) -> tuple[str, ...]:
    """Those of LLVM's features for a CPU that are the vector extensions to look for, sorted."""
    return tuple(sorted(_LINUX_FLAGS.keys() & set(llvm_features)))


def missing_features(features: Iterable[str], cpuinfo: str) -> list[str]:
    """Features that ``/proc/cpuinfo`` does not offer; none if it says nothing (not Linux)."""
    offered = cpu_features_of(cpuinfo)
    return [name for name in features if offered and name in _LINUX_FLAGS and _LINUX_FLAGS[name] not in offered]


def check_host(directory: Path, manifest: Manifest) -> None:
    """Make sure that this machine has the CPU that the library was compiled for.

    Raises
    ------
    InvalidBundleError
        The library is no shared library, is one for another architecture, or may use vector
        extensions that this CPU lacks.
    """
    path, target = directory / LIBRARY, manifest.target
    advice = f"run it on a device of target {target.name!r}, or deploy for this one; --files-only checks the files here"
    architecture = _elf_architecture(path)
    if architecture != platform.machine():
        raise InvalidBundleError(f"{path} is for {architecture}, this machine is {platform.machine()}; {advice}")
    missing = missing_features(target.cpu_features, _CPUINFO.read_text() if _CPUINFO.exists() else "")
    if missing:
        cpu = target.tvm_target.get("mcpu", "its CPU")
        raise InvalidBundleError(f"{path} was compiled for {cpu}; this CPU lacks {', '.join(missing)}; {advice}")


def _elf_architecture(path: Path) -> str:
    with path.open("rb") as stream:
        header = stream.read(20)
    if len(header) < 20 or header[:4] != b"\x7fELF":
        raise InvalidBundleError(f"{path} is no shared library of Linux (ELF); write the bundle again")
    machine = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    return _ELF_MACHINES.get(machine, f"ELF machine {machine}")
