"""What the compiler assumes of a CPU against what a device lists."""

from __future__ import annotations

import pytest
from tvm.target import Target
from tvm.target.codegen import llvm_get_cpu_features

from ofa_tvm.compiler.cpu_features import architecture_of, unsupported_features
from ofa_tvm.cpuinfo import LINUX_FLAGS

X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}
ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}


def test_architecture() -> None:
    assert architecture_of(Target(ARM)) == "aarch64"
    assert architecture_of(Target({**ARM, "mtriple": "arm64-linux-gnu"})) == "aarch64"
    assert architecture_of(Target({**X86, "mtriple": "amd64-linux-gnu"})) == "x86_64"


def test_features_that_a_kernel_hides() -> None:
    target = Target({**X86, "mcpu": "sapphirerapids"})
    features = [*LINUX_FLAGS["x86_64"].values()]
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


def test_another_architecture_has_no_feature_at_all() -> None:
    target = Target({**ARM, "mcpu": "cortex-a72"})
    assert unsupported_features(target, "x86_64", ["aes", "sha_ni"]) == ["aes", "crc", "fp-armv8", "neon", "sha2"]
    unknown = Target({"kind": "llvm", "mtriple": "aarch65-linux-gnu"})  # about which LLVM crashes if asked
    assert unsupported_features(unknown, "aarch64", ["asimd"]) == []


@pytest.mark.parametrize(
    ("plain", "name"),
    [
        *(({**X86, "mcpu": "x86-64"}, name) for name in LINUX_FLAGS["x86_64"]),
        *(({**ARM, "mcpu": "generic"}, name) for name in LINUX_FLAGS["aarch64"]),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value["mtriple"]).partition("-")[0],
)
def test_llvm_knows_every_feature_we_name(plain: dict[str, object], name: str) -> None:
    assert name in {str(feature) for feature in llvm_get_cpu_features(Target({**plain, "mattr": [f"+{name}"]}))}
