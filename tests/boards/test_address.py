from __future__ import annotations

import getpass
import os

import pytest

from ofa_tvm.boards.address import SshAddress
from ofa_tvm.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi@192.168.1.20", SshAddress("pi", "192.168.1.20", 22)),
        ("pi@rasp.local:2222", SshAddress("pi", "rasp.local", 2222)),
        ("pi@[fe80::1%eth0]:22", SshAddress("pi", "fe80::1%eth0", 22)),
        ("pi@fe80::1%eth0", SshAddress("pi", "fe80::1%eth0", 22)),
        ("[::1]:2222", SshAddress(getpass.getuser(), "::1", 2222)),
        ("rasp4", SshAddress(getpass.getuser(), "rasp4", 22)),
    ],
)
def test_addresses_are_read_as_ssh_reads_them(text: str, expected: SshAddress):
    assert SshAddress.parse(text) == expected
    assert SshAddress.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "pi@", "@host", "pi:secret@host", "host:0", "host:70000", "::1:22", "pi@[x]", "-oProxy@x", "a b", "x;y"],
)
def test_anything_else_is_a_usage_error_that_shows_the_form(text: str):
    with pytest.raises(UsageError, match=r"\[USER@\]HOST\[:PORT\]") as caught:
        SshAddress.parse(text)
    assert "\n" not in str(caught.value)


def test_current_user_without_a_name_is_to_be_said(monkeypatch: pytest.MonkeyPatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    with pytest.raises(UsageError, match=r"your user id has no name here; give USER@HOST"):
        SshAddress.parse("board")
    assert SshAddress.parse("pi@board").user == "pi"


def test_known_hosts_names_are_openssh_s():
    assert SshAddress.parse("pi@host").known_hosts_name == "host"
    assert SshAddress.parse("pi@host:2222").known_hosts_name == "[host]:2222"
