"""Machines behind targets, and the host's own target."""

from __future__ import annotations

from pathlib import Path

import pytest
from tvm.target import Target
from tvm.target.codegen import llvm_get_cpu_features

from ofa_tvm.compiler.machine import hidden_features, machine_of, resolve_tvm_target
from ofa_tvm.errors import CompileError, InvalidTargetError

X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}


@pytest.mark.parametrize(
    ("spec", "lanes", "registers"),
    [
        ({**X86, "mcpu": "skylake-avx512"}, 16, 32),
        ({**X86, "mcpu": "haswell"}, 8, 16),
        ({**X86, "mcpu": "nehalem"}, 4, 16),
        ({**X86, "mcpu": "znver4", "mattr": ["-avx512f"]}, 8, 16),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72", "mattr": ["+neon"]}, 8, 16),
    ],
)
def test_machine_of(spec: dict[str, object], lanes: int, registers: int) -> None:
    machine = machine_of(resolve_tvm_target(spec, threads=3))
    assert (machine.lanes, machine.vector_registers, machine.threads) == (lanes, registers, 3)


def test_only_cpus_with_templates_have_a_machine() -> None:
    with pytest.raises(CompileError, match="not opencl"):
        machine_of(Target({"kind": "opencl"}))
    with pytest.raises(CompileError, match="riscv64-linux-gnu"):
        machine_of(Target({"kind": "llvm", "mtriple": "riscv64-linux-gnu"}))


def test_an_impossible_target_is_refused() -> None:
    with pytest.raises(InvalidTargetError, match="tvm_target"):
        resolve_tvm_target({"kind": "abacus"}, threads=1)


def test_hidden_features() -> None:
    features = {"avx2", "avx512f", "avx512bf16", "fast-lzcnt"}
    cpuinfo = "processor : 0\nflags\t\t: fpu avx2 avx512_bf16\n"
    assert hidden_features("x86_64", features, cpuinfo) == ["avx512f"]
    assert hidden_features("x86_64", features, "") == []
    assert hidden_features("aarch64", {"neon", "dotprod"}, "Features\t: fp asimd\n") == ["dotprod"]


def test_the_host_has_no_feature_that_its_kernel_hides() -> None:
    target = resolve_tvm_target("host", threads=1)
    architecture = str(target.attrs["mtriple"]).partition("-")[0]
    cpuinfo = Path("/proc/cpuinfo").read_text()
    features = {str(name) for name in llvm_get_cpu_features(target)}
    assert hidden_features(architecture, features, cpuinfo) == []
