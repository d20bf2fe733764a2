"""The unit that keeps a server running. systemd itself does not run in tests: a stub takes its commands.

The unit is checked by systemd's own `systemd-analyze verify`, where it is installed.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ofa_tvm.boards.registry import Board, name_on_board
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.boards.systemd import SystemdService
from ofa_tvm.errors import BoardSetUpError

from .conftest import SshBoard

# Runs what ExecStart says, and knows the pid.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>~/calls
[ "$1" = --user ] && shift
for unit; do :; done
case "$*" in
restart*)
    eval "$(sed -n 's/^ExecStart=//p' ~/.config/systemd/user/$unit) >/dev/null 2>&1 </dev/null &"
    echo $! >~/pid ;;
is-active*) kill -0 "$(cat ~/pid)" 2>/dev/null ;;
disable*) kill "$(cat ~/pid)" && rm ~/pid ;;
esac
"""


@pytest.fixture
def stub(ssh_board: SshBoard) -> Iterator[Path]:
    """A board of a user who is not root, with something that takes systemd's commands."""
    folder = ssh_board.home / "bin"
    folder.mkdir()
    programs = {"systemctl": SYSTEMCTL, "id": "#!/bin/sh\necho 1000\n", "journalctl": "#!/bin/sh\necho a line\n"}
    programs["loginctl"] = "#!/bin/sh\nexit 0\n"
    for name, script in programs.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return ssh_board.home


def test_unit_is_started_found_and_removed(connection: SshConnection, board: Board, stub: Path, tmp_path: Path):
    service = SystemdService(connection, board)
    assert not service.status().running
    command = ["/bin/sleep", "1000", "100%", "a $b"]
    service.start(["/bin/sleep", "1000"])
    unit = stub / f".config/systemd/user/ofa_tvm-{name_on_board(board)}.service"
    assert "device key rasp4" in unit.read_text()
    assert "WantedBy=default.target" in unit.read_text()
    status = service.status()
    assert status.running
    assert status.command == service.written(["/bin/sleep", "1000"])
    assert status.last_words == "a line"
    service.stop()
    assert not unit.exists()
    assert not service.status().running
    service.stop()
    assert service.written(command) == '/bin/sleep 1000 "100%%" "a $$b"'


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_unit_is_one_to_systemd(connection: SshConnection, board: Board, stub: Path):
    SystemdService(connection, board).start(["/bin/sleep", "100", "a b"])
    unit = stub / f".config/systemd/user/ofa_tvm-{name_on_board(board)}.service"
    check = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    assert "ofa_tvm" not in check.stderr
    assert check.returncode == 0


def test_board_without_systemd(connection: SshConnection, board: Board, stub: Path):
    (stub / "bin" / "systemctl").write_text("#!/bin/sh\necho 'System has not been booted with systemd' >&2; exit 1\n")
    with pytest.raises(BoardSetUpError, match="not been booted with systemd"):
        SystemdService(connection, board).start(["/bin/sleep", "100"])


def test_user_whose_services_end_at_logout_hears_what_to_type(connection: SshConnection, board: Board, stub: Path):
    (stub / "bin" / "loginctl").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(BoardSetUpError, match="sudo loginctl enable-linger root"):
        SystemdService(connection, board).start(["/bin/sleep", "100"])
    assert not list(stub.rglob("*.service"))
    assert not (stub / "calls").exists()


def test_journal_is_that_of_the_unit(connection: SshConnection, board: Board, stub: Path):
    """A user's own part of the journal is there only if it is kept on the disk."""
    (stub / "bin" / "journalctl").write_text('#!/bin/sh\necho "$@"\n')
    service = SystemdService(connection, board)
    service.start(["/bin/sleep", "1000"])
    assert service.status().last_words.startswith(f"--user-unit ofa_tvm-{name_on_board(board)}.service")
    service.stop()
