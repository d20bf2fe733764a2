"""Where emulated boards can't be had, one line says why and what to type."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ofa_tvm.boards.emulation import arm64, requirements
from ofa_tvm.errors import EmulationError

Without = Callable[..., None]
COMPLETE = shutil.which("qemu-aarch64-static") and shutil.which("ip") and os.geteuid() == 0


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Without:
    """A host with nothing missing but the programs named, and the right ones if `root`."""

    def pretend(*programs: str, root: bool = True, machine: str = "x86_64", system: str = "Linux") -> None:
        monkeypatch.setattr(
            requirements.shutil, "which", lambda name, path: None if name in programs else f"/usr/bin/{name}"
        )
        monkeypatch.setattr(requirements.os, "geteuid", lambda: 0 if root else 1000)
        monkeypatch.setattr(requirements, "is_arm64", lambda: machine == "aarch64")
        monkeypatch.setattr(requirements.platform, "system", lambda: system)
        monkeypatch.setattr(requirements, "REGISTRATION", Path(__file__))

    return pretend


def refusal() -> str:
    with pytest.raises(EmulationError) as error:
        requirements.require_host()
    message = str(error.value)
    assert error.value.exit_code == 3
    assert "\n" not in message
    return message


def test_all_that_is_missing_is_named_at_once(without: Without):
    without("qemu-aarch64-static", "ip", "setpriv", "unshare", root=False)
    message = refusal()
    assert "the packages iproute2, qemu-user-static, util-linux" in message
    assert "root" in message
    assert "sudo apt-get install iproute2 qemu-user-static util-linux" in message


def test_a_user_is_told_to_be_root(without: Without):
    without(root=False)
    assert refusal().startswith("no emulated board here: root is missing; run the command again as root")


def test_a_host_without_apt_is_told_so(without: Without):
    without("apt-get", "dpkg-deb", "qemu-aarch64-static")
    message = refusal()
    assert "a Debian with apt" in message
    assert "apt-get install" not in message


def test_a_missing_registration_file_is_a_missing_package(without: Without, monkeypatch, tmp_path: Path):
    without(root=False)
    monkeypatch.setattr(requirements, "REGISTRATION", tmp_path / "none")
    monkeypatch.setattr(requirements, "is_registered", lambda: False)
    assert "qemu-user-static" in refusal()


@pytest.mark.parametrize(
    ("handler", "fit"), [("enabled\nflags: POCF\n", True), ("enabled\nflags: OC\n", False), (None, False)]
)
def test_a_handler_that_is_there_needs_no_file(
    without: Without, monkeypatch, tmp_path: Path, handler: str | None, fit: bool
):
    """Older systems register it in another way."""
    without(root=False)
    monkeypatch.setattr(requirements, "REGISTRATION", tmp_path / "none")
    monkeypatch.setattr(arm64, "BINFMT_MISC", tmp_path)
    if handler:
        (tmp_path / "qemu-aarch64").write_text(handler)
    assert ("qemu-user-static" not in refusal()) is fit


def test_an_arm64_host_needs_no_qemu(without: Without):
    without("qemu-aarch64-static", root=False, machine="aarch64")
    assert "qemu" not in refusal()


def test_another_system_is_refused(without: Without):
    without(system="Darwin")
    assert "emulated boards need Linux, not Darwin" in refusal()


@pytest.mark.skipif(not COMPLETE, reason="needs root, QEMU and iproute2")
def test_a_kernel_that_refuses_namespaces_is_told(monkeypatch, tmp_path: Path):
    (tmp_path / "unshare").write_text(
        "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n"
    )
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    message = refusal()
    assert "the permission to make namespaces" in message
    assert "Operation not permitted" in message
