"""The vector machine behind a TVM target: what kernel templates and their cost model need to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tvm.target import Target
from tvm.target.codegen import (
    llvm_cpu_has_features,
    llvm_get_cpu_features,
    llvm_get_system_cpu,
    llvm_get_system_triple,
)

from ofa_tvm.errors import CompileError, InvalidTargetError
from ofa_tvm.space.workload import Workload

SHARED_MACS = 1_000_000

_CPUINFO = Path("/proc/cpuinfo")

# Instruction-set features of LLVM that an operating system or hypervisor may hide, with the kernel's
# name for each. Tuning flags (``fast-*``) and privileged instructions are no concern of generated code.
_LINUX_FLAGS = {
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


@dataclass(frozen=True, slots=True)
class Machine:
    """One core as the kernel templates see it.

    Attributes
    ----------
    lanes
        Channels packed innermost (``v``): float32 values of one packed vector.
    vector_registers
        How many packed vectors the register file holds. With Neon a packed vector of 8 takes two of the
        32 registers of 4, which LLVM schedules better than 4 lanes (0.79 against 0.66 fmla a cycle).
    multiply_adds_per_cycle
        Packed fused multiply-adds that can start in one cycle.
    latency
        Of a fused multiply-add, in cycles: this many times ``multiply_adds_per_cycle`` have to be independent.
    l1_bytes
        First-level data cache.
    threads
        Threads a kernel may use.
    """

    lanes: int
    vector_registers: int
    multiply_adds_per_cycle: float
    latency: int = 4
    l1_bytes: int = 32 * 1024
    threads: int = 1

    def shares(self, workload: Workload) -> bool:
        """Whether threads share the work: not if starting them takes longer than they save."""
        return self.threads > 1 and workload.macs >= SHARED_MACS


def machine_of(tvm_target: Target, l1d_kib: int | None = None) -> Machine:
    """The machine a TVM target describes, from its architecture and LLVM's features of the CPU.

    TVM knows nothing of caches: a target file that gives its first-level data cache gives it as `l1d_kib`.

    Raises
    ------
    CompileError
        The target is no LLVM target for x86-64 or 64-bit Arm.
    """
    if tvm_target.kind.name != "llvm":
        raise CompileError(f"kernel templates are for CPUs (TVM target kind llvm), not {tvm_target.kind.name}")
    machine = replace(_core_of(tvm_target), threads=int(tvm_target.attrs.get("num-cores") or 1))
    return machine if l1d_kib is None else replace(machine, l1_bytes=l1d_kib * 1024)


def _core_of(tvm_target: Target) -> Machine:
    architecture = architecture_of(tvm_target)
    if architecture == "aarch64":
        return Machine(lanes=8, vector_registers=16, multiply_adds_per_cycle=0.5)
    if architecture != "x86_64":
        raise CompileError(f"no kernel templates for {_triple(tvm_target)}: x86-64 and aarch64 have them")
    if llvm_cpu_has_features("avx512f", tvm_target):
        return Machine(lanes=16, vector_registers=32, multiply_adds_per_cycle=2)
    if llvm_cpu_has_features(["avx2", "fma"], tvm_target):
        return Machine(lanes=8, vector_registers=16, multiply_adds_per_cycle=2)
    return Machine(lanes=4, vector_registers=16, multiply_adds_per_cycle=1)


def architecture_of(tvm_target: Target) -> str:
    """The architecture a TVM target compiles for, as ``uname -m`` of a Linux device says it."""
    return _architecture(_triple(tvm_target))


def resolve_tvm_target(spec: Mapping[str, Any] | Literal["host"], threads: int) -> Target:
    """The TVM target of a target file's ``tvm_target``, for kernels of `threads` threads.

    ``"host"`` is this very CPU. Features that LLVM derives from the CPU's name but the operating system
    does not offer (a hypervisor hides them, or the kernel does not save their registers) are switched off.

    Raises
    ------
    InvalidTargetError
        TVM does not accept the target.
    """
    options = _host() if spec == "host" else dict(spec)
    try:
        return Target({**options, "num-cores": threads})
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InvalidTargetError(f"TVM does not accept tvm_target {options}: {reason}") from error


def unsupported_features(tvm_target: Target, architecture: str, cpu_features: Iterable[str]) -> list[str]:
    """Instruction-set features the compiler uses for a target that a device does not list, sorted; LLVM's names.

    Parameters
    ----------
    architecture
        Of the device, as its ``uname -m`` says.
    cpu_features
        As the device's ``/proc/cpuinfo`` lists them; none at all (no Linux) rules nothing out.
    """
    offered = set(cpu_features)
    known = _LINUX_FLAGS.get(_architecture(architecture), {})
    enabled = (str(name) for name in llvm_get_cpu_features(tvm_target))
    return sorted(name for name in enabled if offered and name in known and known[name] not in offered)


def cpu_features_of(cpuinfo: str) -> list[str]:
    """The features that the text of ``/proc/cpuinfo`` lists for any of its cores, sorted; the kernel's names."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return sorted({flag for key, _, flags in lines if key.strip() in ("flags", "Features") for flag in flags.split()})


def _host() -> dict[str, Any]:
    triple, cpu = str(llvm_get_system_triple()), str(llvm_get_system_cpu())
    plain = {"kind": "llvm", "mtriple": triple, "mcpu": cpu}
    cpuinfo = _CPUINFO.read_text() if _CPUINFO.exists() else ""
    hidden = unsupported_features(Target(plain), _architecture(triple), cpu_features_of(cpuinfo))
    return {**plain, "mattr": [f"-{name}" for name in hidden]} if hidden else plain


def _triple(tvm_target: Target) -> str:
    return str(tvm_target.attrs.get("mtriple") or llvm_get_system_triple())


def _architecture(triple: str) -> str:
    name = triple.partition("-")[0]
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)
