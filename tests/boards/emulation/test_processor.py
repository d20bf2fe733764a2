"""The core a board shows and runs is the target's, or the user is told."""

from __future__ import annotations

from typing import Any

import pytest

from ofa_tvm.boards.emulation import processor
from ofa_tvm.boards.emulation.processor import processor_of
from ofa_tvm.errors import EmulationError
from ofa_tvm.targets import Target, load_target


@pytest.fixture(autouse=True)
def qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_qemu_models", lambda: {"cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1"})
    monkeypatch.setattr(processor, "is_arm64", lambda: False)


def target(mcpu: str | None) -> Target:
    spec: dict[str, Any] = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}
    return load_target("rasp4").model_copy(update={"tvm_target": spec | ({"mcpu": mcpu} if mcpu else {})})


@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a72", "cortex-a76"])
def test_a_known_core_is_taken_without_a_word(core: str):
    said: list[str] = []
    chosen = processor_of(target(core), said.append)
    assert (chosen.core, chosen.qemu_model, chosen.cpuinfo.name, said) == (core, core, core, [])


@pytest.mark.parametrize("mcpu", [None, "generic"])
def test_a_generic_target_has_a_cortex_a72(mcpu: str | None):
    said: list[str] = []
    assert processor_of(target(mcpu), said.append).qemu_model == "cortex-a72"
    assert said == []


def test_a_core_qemu_has_no_model_of_runs_every_instruction():
    said: list[str] = []
    chosen = processor_of(target("cortex-a78ae"), said.append)
    assert (chosen.cpuinfo.name, chosen.qemu_model) == ("cortex-a78ae", "max,sve=off")
    assert len(said) == 1
    assert "QEMU has no model of cortex-a78ae" in said[0]


def test_an_unknown_core_is_replaced_and_said_so():
    said: list[str] = []
    chosen = processor_of(target("apple-m1"), said.append)
    assert chosen.core == "cortex-a78ae"
    assert "no emulated core apple-m1" in said[0]


@pytest.mark.parametrize("name", ["local", "null"])
def test_only_arm_boards_are_emulated(name: str):
    with pytest.raises(EmulationError, match=r"not for 64-bit Arm .*; use rasp4 or arm_cpu"):
        processor_of(load_target(name), print)


def test_what_the_cores_show_is_complete():
    for path in processor._cpuinfo("any").parent.iterdir():
        text = path.read_text()
        assert text.count("processor\t:") == text.count("CPU part\t: 0xd") == text.count("Features\t: fp asimd ") == 4
        assert "emulated by QEMU" in text


def test_qemu_knows_the_common_cores(base: object, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    if not processor.is_arm64():
        assert {"cortex-a53", "cortex-a72", "max"} <= processor._qemu_models()
