"""The vector machine behind a TVM target: what kernel templates and their cost model need to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tvm.target import Target
from tvm.target.codegen import (
    llvm_cpu_has_features,
    llvm_get_cpu_archlist,
    llvm_get_cpu_features,
    llvm_get_system_cpu,
    llvm_get_system_triple,
)

from ofa_tvm.compiler.cpu_features import architecture_of, triple_of, unsupported_features
from ofa_tvm.cpuinfo import LINUX_FLAGS, cpu_features_of
from ofa_tvm.errors import CompileError, InvalidTargetError
from ofa_tvm.names import nearest
from ofa_tvm.space.workload import Workload

KINDS = ("llvm",)
"""Of TVM's targets those that there is a toolchain for."""

SHARED_MACS = 300_000

# Arm cores with two Neon pipelines of 128 bits, and two loads a cycle. The others have one of each, or half.
_WIDE_ARM = ("cortex-a75", "cortex-a76", "cortex-a77", "cortex-a78", "cortex-x", "neoverse", "apple", "ampere")

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Machine:
    """One core as the kernel templates see it.

    Attributes
    ----------
    lanes
        Channels packed innermost (``v``): float32 values of one packed vector.
    vector_registers
        How many packed vectors the register file holds.
    multiply_adds_per_cycle
        Packed fused multiply-adds that can start in one cycle.
    loads_per_cycle
        Packed vectors that can be loaded in one cycle.
    multiplies_by_lane
        Whether a multiply-add takes one factor from any lane of a register: then a pixel's channels are loaded as a
        vector. Otherwise each is repeated by a load of its own, which x86 does for nothing.
    latency
        Of a fused multiply-add, in cycles: this many times ``multiply_adds_per_cycle`` have to be independent.
    l1_bytes
        First-level data cache.
    l2_bytes
        Second-level cache that one core can count on.
    threads
        Threads a kernel may use.
    """

    lanes: int
    vector_registers: int
    multiply_adds_per_cycle: float
    loads_per_cycle: float = 2
    multiplies_by_lane: bool = False
    latency: int = 4
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 512 * 1024
    threads: int = 1

    def threads_for(self, workload: Workload) -> int:
        """How many threads share a kernel's work: one, if starting more takes longer than they save."""
        return self.threads if workload.macs >= SHARED_MACS else 1


def machine_of(tvm_target: Target, l1d_kib: int | None = None, l2_kib: int | None = None) -> Machine:
    """The machine a TVM target describes, from its architecture and LLVM's features of the CPU.

    TVM knows nothing of caches: a target file that gives them gives the first-level data cache as `l1d_kib` and what
    of the second level is one core's as `l2_kib`.

    Raises
    ------
    CompileError
        The target is no LLVM target for x86-64 or 64-bit Arm.
    """
    if tvm_target.kind.name != "llvm":
        raise CompileError(f"kernel templates are for CPUs (TVM target kind llvm), not {tvm_target.kind.name}")
    core = _core_of(tvm_target)
    return replace(
        core,
        l1_bytes=core.l1_bytes if l1d_kib is None else l1d_kib * 1024,
        l2_bytes=core.l2_bytes if l2_kib is None else l2_kib * 1024,
        threads=int(tvm_target.attrs.get("num-cores") or 1),
    )


def _core_of(tvm_target: Target) -> Machine:
    architecture = architecture_of(tvm_target)
    if architecture == "aarch64":
        wide = str(tvm_target.attrs.get("mcpu") or "").startswith(_WIDE_ARM)
        rate = 2 if wide else 1
        return Machine(4, 32, multiply_adds_per_cycle=rate, loads_per_cycle=rate, multiplies_by_lane=True)
    if architecture != "x86_64":
        raise CompileError(f"no kernel templates for {triple_of(tvm_target)}: x86-64 and aarch64 have them")
    if llvm_cpu_has_features("avx512f", tvm_target):
        return Machine(lanes=16, vector_registers=32, multiply_adds_per_cycle=2, l2_bytes=1024 * 1024)
    if llvm_cpu_has_features(["avx2", "fma"], tvm_target):
        return Machine(lanes=8, vector_registers=16, multiply_adds_per_cycle=2)
    return Machine(lanes=4, vector_registers=16, multiply_adds_per_cycle=1)


def resolve_tvm_target(spec: Mapping[str, Any] | Literal["host"], threads: int) -> Target:
    """The TVM target of a target file's ``tvm_target``, for kernels of `threads` threads.

    ``"host"`` is this very CPU. Features that LLVM derives from the CPU's name but the operating system
    does not offer (a hypervisor hides them, or the kernel does not save their registers) are switched off.

    Raises
    ------
    InvalidTargetError
        Its kind is none of `KINDS`, or TVM does not accept the target.
    """
    options = _host() if spec == "host" else dict(spec)
    if (kind := options.get("kind")) not in KINDS:
        was = "missing" if kind is None else f"{kind!r} is none that is compiled for"
        raise InvalidTargetError(f"tvm_target.kind: {was}; today these are: {', '.join(KINDS)}")
    try:
        target = Target({**options, "num-cores": threads})
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InvalidTargetError(f"TVM does not accept tvm_target {options}: {reason}") from error
    if spec != "host" and architecture_of(target) in LINUX_FLAGS:
        _check_names(target)
    return target


def _check_names(target: Target) -> None:
    """Refuse what LLVM would pass over: it compiles for a generic CPU where it doesn't know the name of one."""
    cpu, attributes = target.attrs.get("mcpu"), [str(name) for name in target.attrs.get("mattr") or ()]
    known = [str(name) for name in llvm_get_cpu_archlist(target)]
    if cpu is not None and str(cpu) not in known:
        hint = nearest(str(cpu), known) or f"; it knows {', '.join(known)}"
        raise InvalidTargetError(f"tvm_target.mcpu: LLVM knows no CPU {str(cpu)!r} for {triple_of(target)}{hint}")
    for attribute in attributes:
        if attribute[:1] not in ("+", "-"):
            raise InvalidTargetError(f"tvm_target.mattr: write +{attribute} or -{attribute}, not {attribute!r}")
    names = [attribute[1:] for attribute in attributes]
    probe = Target({"kind": "llvm", "mtriple": triple_of(target), "mattr": [f"+{name}" for name in names]})
    features = {str(name) for name in llvm_get_cpu_features(probe)}
    for name in names:
        if name not in features:
            raise InvalidTargetError(f"tvm_target.mattr: LLVM knows no feature {name!r} of {triple_of(target)}")


def _host() -> dict[str, Any]:
    triple, cpu = str(llvm_get_system_triple()), str(llvm_get_system_cpu())
    plain = {"kind": "llvm", "mtriple": triple, "mcpu": cpu}
    cpuinfo = _CPUINFO.read_text() if _CPUINFO.exists() else ""
    hidden = unsupported_features(Target(plain), architecture_of(Target(plain)), cpu_features_of(cpuinfo))
    return {**plain, "mattr": [f"-{name}" for name in hidden]} if hidden else plain
