"""Instruction-set features: what the compiler assumes of a CPU, and what a Linux device lists."""

from __future__ import annotations

from collections.abc import Iterable

from tvm.target import Target
from tvm.target.codegen import llvm_get_cpu_features, llvm_get_system_triple

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
