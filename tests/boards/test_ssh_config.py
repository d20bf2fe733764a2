"""The user's ~/.ssh/config, as far as it decides how a board is reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofa_tvm.boards.address import SshAddress
from ofa_tvm.boards.ssh_config import HostSettings, host_settings
from ofa_tvm.errors import UsageError


@pytest.fixture
def ssh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".ssh"
    folder.mkdir()
    return folder


def test_without_the_file_a_host_is_what_it_is_called(ssh_folder: Path):
    assert host_settings("board") == HostSettings("board")


def test_what_is_read(ssh_folder: Path):
    (ssh_folder / "config").write_text(
        "Host bench-*\n  HostName 10.0.0.7\n  User pi\n  Port 2222\n  IdentityFile ~/.ssh/bench\n"
        "  IdentitiesOnly yes\n  ProxyJump gate, me@[fd00::1]:23\n"
    )
    assert host_settings("bench-1") == HostSettings(
        hostname="10.0.0.7",
        user="pi",
        port=2222,
        identities=(ssh_folder / "bench",),
        identities_only=True,
        jumps=("gate", "me@[fd00::1]:23"),
    )
    assert host_settings("other") == HostSettings("other")


def test_what_is_given_wins_and_the_rest_comes_from_the_file(ssh_folder: Path):
    (ssh_folder / "config").write_text("Host bench\n HostName 10.0.0.7\n User pi\n Port 2222\n ProxyCommand nc %h %p\n")
    assert SshAddress.parse("bench") == SshAddress("pi", "bench", 2222)
    assert SshAddress.parse("me@bench:23") == SshAddress("me", "bench", 23)
    assert SshAddress.parse("bench").known_hosts_name == "[10.0.0.7]:2222"
    assert host_settings("bench", "me", 23).proxy_command == "nc 10.0.0.7 23"


def test_none_takes_a_jump_back(ssh_folder: Path):
    (ssh_folder / "config").write_text("Host bench\n ProxyJump none\nHost *\n ProxyJump gate\n")
    assert host_settings("bench").jumps == ()
    assert host_settings("other").jumps == ("gate",)


def test_included_files_are_read_and_leave_their_section(ssh_folder: Path):
    (ssh_folder / "config.d").mkdir()
    (ssh_folder / "config.d" / "boards").write_text("Host bench\n  Port 2222\n")
    (ssh_folder / "config").write_text("Host other\n  Include config.d/*\n  User pi\n")
    assert host_settings("bench") == HostSettings("bench", port=2222)
    assert host_settings("other") == HostSettings("other", user="pi")


@pytest.mark.parametrize("content", ["Port x\n", "Include config\n", "Match never\n", "Hostname\n"])
def test_a_file_that_makes_no_sense_is_named(ssh_folder: Path, content: str):
    (ssh_folder / "config").write_text(content)
    with pytest.raises(UsageError, match=r"\.ssh/config cannot be read") as caught:
        SshAddress.parse("bench")
    assert "\n" not in str(caught.value)
