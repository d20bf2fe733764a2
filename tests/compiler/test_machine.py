"""Machines behind targets, and the host's own target."""

from __future__ import annotations

from pathlib import Path

import pytest
from tvm.target import Target

from ofa_tvm.compiler.cpu_features import architecture_of, unsupported_features
from ofa_tvm.compiler.machine import machine_of, resolve_tvm_target
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.cpuinfo import cpu_features_of
from ofa_tvm.errors import CompileError, InvalidTargetError
from ofa_tvm.targets import load_target

X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}
ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}


@pytest.mark.parametrize(
    ("spec", "lanes", "registers"),
    [
        ({**X86, "mcpu": "skylake-avx512"}, 16, 32),
        ({**X86, "mcpu": "haswell"}, 8, 16),
        ({**X86, "mcpu": "nehalem"}, 4, 16),
        ({**X86, "mcpu": "znver4", "mattr": ["-avx512f"]}, 8, 16),
        ({**ARM, "mcpu": "cortex-a72", "mattr": ["+neon"]}, 4, 32),
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


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "abacus"}, "tvm_target.kind: 'abacus' is none that is compiled for; today these are: llvm"),
        ({"kind": "opencl", "device": "mali"}, "tvm_target.kind: 'opencl' is none"),
        ({"mtriple": "aarch64-linux-gnu"}, "tvm_target.kind: missing; today these are: llvm"),
        ({**ARM, "colour": "red"}, "TVM does not accept tvm_target .*colour"),
    ],
)
def test_an_impossible_target_is_refused(spec: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidTargetError, match=message) as caught:
        resolve_tvm_target(spec, threads=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({**ARM, "mcpu": "cortex-a72x"}, r"mcpu: LLVM knows no CPU 'cortex-a72x'.*did you mean 'cortex-a72'\?"),
        ({**ARM, "mcpu": "bcm2711"}, r"mcpu: .*it knows .*cortex-a76"),
        ({**X86, "mcpu": "cortex-a72"}, "mcpu: LLVM knows no CPU 'cortex-a72' for x86_64"),
        ({**ARM, "mattr": ["+neon", "+neno"]}, "mattr: LLVM knows no feature 'neno'"),
        ({**ARM, "mattr": ["-neno"]}, "mattr: LLVM knows no feature 'neno'"),
        ({**ARM, "mattr": ["neon"]}, r"mattr: write \+neon or -neon"),
    ],
)
def test_names_that_llvm_would_pass_over_are_refused(spec: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidTargetError, match=message) as caught:
        resolve_tvm_target(spec, threads=1)
    assert "\n" not in str(caught.value)


def test_a_device_that_does_not_run_what_is_compiled_is_refused() -> None:
    target = load_target("rasp4")
    with pytest.raises(InvalidTargetError, match=r"rasp4: precisions: float32 is .* not among int8, float16"):
        Toolchain.of(target.model_copy(update={"precisions": ("int8", "float16")}))
    assert Toolchain.of(target.model_copy(update={"precisions": ("int8", "float32")})).machine.lanes == 4


def test_the_cache_of_a_target_file_replaces_the_usual_one() -> None:
    target = resolve_tvm_target({**ARM, "mcpu": "cortex-a76"}, threads=2)
    assert machine_of(target).l1_bytes == 32 * 1024
    larger = machine_of(target, l1d_kib=64, l2_kib=2048)
    assert larger.l2_bytes == 2048 * 1024
    assert (larger.l1_bytes, larger.lanes, larger.threads) == (64 * 1024, 4, 2)


def test_the_host_has_no_feature_that_its_kernel_hides() -> None:
    target = resolve_tvm_target("host", threads=1)
    features = cpu_features_of(Path("/proc/cpuinfo").read_text())
    assert unsupported_features(target, architecture_of(target), features) == []
