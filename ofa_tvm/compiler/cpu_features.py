"""Instruction-set features: what the compiler assumes of a CPU, and what a Linux device lists."""

from __future__ import annotations

from collections.abc import Iterable

from tvm.target import Target
from tvm.target.codegen import llvm_get_cpu_features, llvm_get_system_triple

from ofa_tvm.cpuinfo import LINUX_FLAGS


def triple_of(tvm_target: Target) -> str:
    """The LLVM triple of a target, which is this host's where it names none."""
    return str(tvm_target.attrs.get("mtriple") or llvm_get_system_triple())


def architecture_of(tvm_target: Target) -> str:
    """The architecture a TVM target compiles for, as ``uname -m`` of a Linux device says it."""
    return _architecture(triple_of(tvm_target))


def unsupported_features(tvm_target: Target, architecture: str, cpu_features: Iterable[str]) -> list[str]:
    """Instruction-set features the compiler uses for a target that a device does not list, sorted; LLVM's names.

    Parameters
    ----------
    architecture
        Of the device, as its ``uname -m`` says. A device of another architecture than the target's has none of them.
    cpu_features
        As the device's ``/proc/cpuinfo`` lists them; none at all (no Linux) rules nothing out.
    """
    known = LINUX_FLAGS.get(architecture_of(tvm_target))
    if known is None:
        return []
    used = sorted(name for name in map(str, llvm_get_cpu_features(tvm_target)) if name in known)
    if _architecture(architecture) != architecture_of(tvm_target):
        return used
    offered = set(cpu_features)
    return [name for name in used if offered and known[name] not in offered]


def _architecture(triple: str) -> str:
    name = triple.partition("-")[0]
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)
