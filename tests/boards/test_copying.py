"""Files to boards whose SSH servers serve none: through the shell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.errors import BoardSetUpError

from .conftest import LIMIT_S, SshBoard

SFTP_SERVER = "/usr/lib/openssh/sftp-server"
TALKING = "echo Welcome\necho 'machine=vax'\necho to you >&2\nprintf 'no newline'\n"


@pytest.fixture
def make_connection(make_board: Callable[..., SshBoard]) -> Iterator[Callable[..., tuple[SshBoard, SshConnection]]]:
    opened: list[SshConnection] = []

    def make(sftp: str) -> tuple[SshBoard, SshConnection]:
        board = make_board(sftp=sftp)
        opened.append(board.connect())
        return board, opened[-1]

    yield make
    for connection in opened:
        connection.close()


@pytest.mark.parametrize("sftp", ["", "/no/such/program"])
def test_a_board_without_sftp_gets_its_files_through_the_shell(
    make_connection: Callable[..., tuple[SshBoard, SshConnection]], tmp_path: Path, sftp: str
):
    board, connection = make_connection(sftp)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    for name in ("it's here", "it's here, too"):
        seen: list[int] = []
        destination = board.home / name
        connection.put_file(source, str(destination), seen.append, 0o755)
        assert destination.read_bytes() == source.read_bytes()
        assert destination.stat().st_mode & 0o777 == 0o755
        assert seen == sorted(seen)
        assert seen[-1] == 3_000_000
    assert connection.sftp_trouble == "its SSH server offers no SFTP"
    assert len(list(board.home.iterdir())) == 2


def test_full_disk_of_a_board_without_sftp_leaves_no_part(
    make_connection: Callable[..., tuple[SshBoard, SshConnection]], tmp_path: Path
):
    board, connection = make_connection("")
    board.shrink_disk("1m")
    source = tmp_path / "source"
    source.write_bytes(bytes(30_000_000))
    with pytest.raises(BoardSetUpError, match=r"cannot write .*x: .*No space left on device.*MiB are free there"):
        connection.put_file(source, str(board.home / "x"))
    assert connection.run("ls -A ~", LIMIT_S).stdout == ""


def test_what_start_up_files_print_is_not_taken_for_a_command_s_output(
    make_connection: Callable[..., tuple[SshBoard, SshConnection]], tmp_path: Path
):
    board, connection = make_connection(SFTP_SERVER)
    (board.home / ".bashrc").write_text(TALKING)
    assert connection.run("echo mine; exit 3", LIMIT_S)[:2] == (3, "mine\n")
    source = tmp_path / "source"
    source.write_bytes(b"content")
    connection.put_file(source, str(board.home / "x"))
    assert (board.home / "x").read_bytes() == b"content"
    assert connection.sftp_trouble
    assert "start-up file there, such as .bashrc, prints" in connection.sftp_trouble
