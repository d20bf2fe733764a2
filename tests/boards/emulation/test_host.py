"""Programs of the host end in time, or give one line."""

from __future__ import annotations

import pytest

from ofa_tvm.boards.emulation import host
from ofa_tvm.errors import EmulationError


def test_a_program_that_hangs_fails_or_is_missing_gives_one_line():
    with pytest.raises(EmulationError, match="sleep 60: no end within 0 s"):
        host.run(["sleep", "60"], 0.1)
    with pytest.raises(EmulationError, match=r"sh -c .*: exit code 3"):
        host.run(["sh", "-c", "exit 3"], 10)
    with pytest.raises(EmulationError, match=r"ls /no-such-folder: .*No such file"):
        host.run(["ls", "/no-such-folder"], 10)
    with pytest.raises(EmulationError, match="no-such-program: No such file"):
        host.run(["no-such-program"], 10)
    assert host.run(["echo", "hello"], 10) == "hello\n"


def test_programs_of_root_are_found_without_roots_path(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert host.run(["chroot", "--version"], 10)
