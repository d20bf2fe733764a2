"""Emulated variants compile like the board's target, and keep apart from it whatever is measured."""

from __future__ import annotations

import pytest

from ofa_tvm.errors import UsageError
from ofa_tvm.targets import Target, emulated_variant, load_target

BOARDS = ("arm_cpu", "jetson", "rasp3", "rasp4", "rk3588")


@pytest.mark.parametrize("name", BOARDS)
def test_variant_of_a_board(name: str):
    board, variant = load_target(name), load_target(f"{name}-emulated")
    assert variant == emulated_variant(board)
    assert variant.name == variant.device.key == f"{name}-emulated"
    assert variant.emulated
    assert not board.emulated
    assert "mean nothing" in variant.description
    for same in ("tvm_target", "cross_compiler", "threads", "cpu", "precisions"):
        assert getattr(variant, same) == getattr(board, same)
    protocol = variant.measurement
    assert (protocol.repeats, protocol.min_repeat_ms, protocol.cooldown_ms) == (3, 1.0, 0.0)
    assert (protocol.max_drift, protocol.timeout_s) == (1000.0, 60.0)
    assert Target.model_validate(variant.model_dump()) == variant


def test_a_variant_never_leads_to_the_real_board():
    board = load_target("rasp4")
    board = board.model_copy(update={"device": board.device.model_copy(update={"ssh": "pi@192.168.1.20"})})
    assert emulated_variant(board).device.ssh is None


def test_the_variant_of_a_variant_is_itself():
    variant = load_target("rasp4-emulated")
    assert emulated_variant(variant) is variant


@pytest.mark.parametrize("name", ["local-emulated", "null-emulated"])
def test_only_arm_boards_have_a_variant(name: str):
    with pytest.raises(UsageError, match=r"has no emulated variant.*use --target arm_cpu-emulated") as caught:
        load_target(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tvm_target",
    [
        {"kind": "llvm", "mtriple": "x86_64-linux-gnu"},
        {"kind": "llvm"},
        {"kind": "opencl", "mtriple": "aarch64-linux-gnu"},
    ],
)
def test_only_arm_code_is_emulated(tvm_target: dict[str, str]):
    target = load_target("rasp4").model_copy(update={"tvm_target": tvm_target})
    with pytest.raises(UsageError, match="no emulated variant"):
        emulated_variant(target)
