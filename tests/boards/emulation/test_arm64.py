"""A registration of QEMU that a board could not use is told, with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofa_tvm.boards.emulation import arm64
from ofa_tvm.boards.emulation.arm64 import enable_arm64
from ofa_tvm.errors import EmulationError


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel shows of a registration."""
    monkeypatch.setattr(arm64, "is_arm64", lambda: False)
    monkeypatch.setattr(arm64, "BINFMT_MISC", tmp_path)
    (tmp_path / "register").touch()
    return tmp_path / "qemu-aarch64"


def test_a_fit_registration_is_used_without_a_word(handler: Path):
    handler.write_text("enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POF\noffset 0\n")
    said: list[str] = []
    enable_arm64(said.append)
    assert said == []
    assert (handler.parent / "register").read_text() == ""


@pytest.mark.parametrize("state", ["enabled\nflags: OC\n", "disabled\nflags: POF\n", "enabled\n"])
def test_an_unfit_registration_is_named(handler: Path, state: str):
    handler.write_text(state)
    with pytest.raises(EmulationError, match="not enabled with flag F") as error:
        enable_arm64(print)
    assert f"echo -1 > {handler}" in str(error.value)


def test_a_kernel_that_refuses_is_one_line(handler: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    registration = tmp_path / "qemu.conf"
    registration.write_text(":qemu:")
    monkeypatch.setattr(arm64, "REGISTRATION", registration)
    (tmp_path / "register").unlink()
    (tmp_path / "register").symlink_to("/dev/full")
    with pytest.raises(EmulationError, match="the kernel refuses"):
        enable_arm64(print)


def test_an_arm64_host_registers_nothing(handler: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arm64, "is_arm64", lambda: True)
    enable_arm64(print)
    assert (handler.parent / "register").read_text() == ""
