"""Machines behind targets, and the host's own target."""

from __future__ import annotations

from pathlib import Path

import pytest
from tvm.target import Target
from tvm.target.codegen import llvm_get_cpu_features

from ofa_tvm.compiler.machine import (
    _LINUX_FLAGS,
    architecture_of,
    cpu_features_of,
    machine_of,
    resolve_tvm_target,
    unsupported_features,
)
from ofa_tvm.errors import CompileError, InvalidTargetError

X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}
ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}


@pytest.mark.parametrize(
    ("spec", "lanes", "registers"),
    [
        ({**X86, "mcpu": "skylake-avx512"}, 16, 32),
        ({**X86, "mcpu": "haswell"}, 8, 16),
        ({**X86, "mcpu": "nehalem"}, 4, 16),
        ({**X86, "mcpu": "znver4", "mattr": ["-avx512f"]}, 8, 16),
        ({**ARM, "mcpu": "cortex-a72", "mattr": ["+neon"]}, 8, 16),
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


def test_the_cache_of_a_target_file_replaces_the_usual_one() -> None:
    target = resolve_tvm_target({**ARM, "mcpu": "cortex-a76"}, threads=2)
    assert machine_of(target).l1_bytes == 32 * 1024
    larger = machine_of(target, l1d_kib=64)
    assert (larger.l1_bytes, larger.lanes, larger.threads) == (64 * 1024, 8, 2)


def test_architecture() -> None:
    assert architecture_of(Target(ARM)) == "aarch64"
    assert architecture_of(Target({**ARM, "mtriple": "arm64-linux-gnu"})) == "aarch64"
    assert architecture_of(Target({**X86, "mtriple": "amd64-linux-gnu"})) == "x86_64"


def test_features_that_a_kernel_hides() -> None:
    target = Target({**X86, "mcpu": "sapphirerapids"})
    features = [*_LINUX_FLAGS["x86_64"].values()]
    assert unsupported_features(target, "x86_64", features) == []
    without = [name for name in features if name not in ("avx512f", "avx512_bf16")]
    assert unsupported_features(target, "amd64", without) == ["avx512bf16", "avx512f"]
    assert unsupported_features(target, "x86_64", []) == [], "unknown features rule nothing out"


def test_features_of_arm_boards() -> None:
    target = Target({**ARM, "mcpu": "cortex-a76"})
    of_a72 = ["fp", "asimd", "aes", "pmull", "sha1", "sha2", "crc32"]
    missing = ["dotprod", "fullfp16", "lse", "rcpc", "rdm"]
    assert unsupported_features(target, "aarch64", of_a72) == missing
    assert unsupported_features(target, "arm64", iter(of_a72)) == missing
    assert unsupported_features(Target({**ARM, "mcpu": "cortex-a72"}), "aarch64", of_a72) == []


def test_cpuinfo() -> None:
    assert cpu_features_of("processor : 0\nflags\t\t: fpu avx2\n\nprocessor : 1\nflags\t\t: fpu sse\n") == [
        "avx2",
        "fpu",
        "sse",
    ]
    assert cpu_features_of("Features\t: fp asimd crc32\nCPU part\t: 0xd08\n") == ["asimd", "crc32", "fp"]
    assert cpu_features_of("") == []


@pytest.mark.parametrize(
    ("plain", "name"),
    [
        *(({**X86, "mcpu": "x86-64"}, name) for name in _LINUX_FLAGS["x86_64"]),
        *(({**ARM, "mcpu": "generic"}, name) for name in _LINUX_FLAGS["aarch64"]),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value["mtriple"]).partition("-")[0],
)
def test_llvm_knows_every_feature_we_name(plain: dict[str, object], name: str) -> None:
    assert name in {str(feature) for feature in llvm_get_cpu_features(Target({**plain, "mattr": [f"+{name}"]}))}


def test_the_host_has_no_feature_that_its_kernel_hides() -> None:
    target = resolve_tvm_target("host", threads=1)
    features = cpu_features_of(Path("/proc/cpuinfo").read_text())
    assert unsupported_features(target, architecture_of(target), features) == []
