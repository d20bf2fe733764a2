"""The vector machine behind a TVM target: what kernel templates and their cost model need to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
        **{"neon": "asimd", "dotprod": "asimddp", "fullfp16": "asimdhp", "fp16fml": "asimdfhm", "rdm": "asimdrdm"},
        **{name: name for name in ("i8mm", "bf16", "sve", "sve2", "sme", "aes", "sha2", "sha3", "sm4")},
        **{"lse": "atomics", "crc": "crc32", "jsconv": "jscvt", "complxnum": "fcma", "rcpc": "lrcpc"},
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


def machine_of(tvm_target: Target) -> Machine:
    """The machine a TVM target describes, from its architecture and LLVM's features of the CPU.

    Raises
    ------
    CompileError
        The target is no LLVM target for x86-64 or 64-bit Arm.
    """
    if tvm_target.kind.name != "llvm":
        raise CompileError(f"kernel templates are for CPUs (TVM target kind llvm), not {tvm_target.kind.name}")
    triple = str(tvm_target.attrs.get("mtriple") or llvm_get_system_triple())
    threads = int(tvm_target.attrs.get("num-cores") or 1)
    architecture = _architecture(triple)
    if architecture == "aarch64":
        return Machine(lanes=8, vector_registers=16, multiply_adds_per_cycle=0.5, threads=threads)
    if architecture != "x86_64":
        raise CompileError(f"no kernel templates for {triple}: x86-64 and aarch64 have them")
    if llvm_cpu_has_features("avx512f", tvm_target):
        return Machine(lanes=16, vector_registers=32, multiply_adds_per_cycle=2, threads=threads)
    if llvm_cpu_has_features(["avx2", "fma"], tvm_target):
        return Machine(lanes=8, vector_registers=16, multiply_adds_per_cycle=2, threads=threads)
    return Machine(lanes=4, vector_registers=16, multiply_adds_per_cycle=1, threads=threads)


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


def hidden_features(architecture: str, features: set[str], cpuinfo: str) -> list[str]:
    """Features LLVM assumes of a CPU that ``/proc/cpuinfo`` does not list, sorted; LLVM's names.

    An empty `cpuinfo` (no Linux) hides nothing.
    """
    offered = {
        flag
        for line in cpuinfo.splitlines()
        if line.partition(":")[0].strip() in ("flags", "Features")
        for flag in line.partition(":")[2].split()
    }
    known = _LINUX_FLAGS.get(architecture, {})
    return sorted(name for name in features if offered and name in known and known[name] not in offered)


def _host() -> dict[str, Any]:
    triple, cpu = str(llvm_get_system_triple()), str(llvm_get_system_cpu())
    plain = {"kind": "llvm", "mtriple": triple, "mcpu": cpu}
    features = {str(name) for name in llvm_get_cpu_features(Target(plain))}
    cpuinfo = _CPUINFO.read_text() if _CPUINFO.exists() else ""
    hidden = hidden_features(_architecture(triple), features, cpuinfo)
    return {**plain, "mattr": [f"-{name}" for name in hidden]} if hidden else plain


def _architecture(triple: str) -> str:
    name = triple.partition("-")[0]
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)
