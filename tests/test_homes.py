from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ofa_tvm import homes
from ofa_tvm.boards.address import SshAddress
from ofa_tvm.errors import UsageError


@pytest.fixture
def nobody_known(monkeypatch):
    """A user id that the system does not know, as a container may have it."""
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "OFA_TVM_STATE", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("nobody_known")
def test_a_user_without_a_home_is_told_what_to_set(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match=rf"user {os.getuid()} has no home folder here; set HOME, or OFA_TVM_STATE"):
        homes.state_folder()
    with pytest.raises(UsageError, match="set HOME, or XDG_CACHE_HOME"):
        homes.cache_folder()
    assert homes.place_option(tmp_path) == "--out or --runs"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert homes.cache_folder() == tmp_path / ".cache" / "ofa_tvm"


@pytest.mark.usefixtures("nobody_known")
def test_a_user_without_a_name_is_asked_for_one():
    assert homes.user_name() is None
    with pytest.raises(UsageError, match=r"'rasp4' does not say as whom.*give USER@HOST"):
        SshAddress.parse("rasp4")
    assert SshAddress.parse("pi@rasp4").user == "pi"


def test_homes_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert homes.cache_folder() == tmp_path / "ofa_tvm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert homes.cache_folder() == Path.home() / ".cache" / "ofa_tvm"
