"""The file of host keys, which several commands write to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest

from ofa_tvm.boards.host_keys import KnownHosts, fingerprint, forget_host
from ofa_tvm.errors import HostKeyError

KEY = paramiko.ECDSAKey.generate()
LINE = f"known {KEY.get_name()} {KEY.get_base64()}\n"


def test_keys_that_are_accepted_and_forgotten_at_once_are_all_there(tmp_path: Path):
    own, users = tmp_path / "state" / "known_hosts", tmp_path / "none"

    def work(number: int) -> None:
        KnownHosts(own, users).check(f"board{number}", KEY, fingerprint(KEY))
        if number % 2:
            forget_host(own, f"board{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(80)))
    left = [line.split()[0] for line in own.read_text().splitlines()]
    assert sorted(left) == sorted(f"board{number}" for number in range(0, 80, 2))


@pytest.mark.parametrize("line", [b"board ssh-ed25519 A\n", b"\xff\xfe\n"])
def test_damaged_line_is_named_and_no_file_is_to_be_removed(tmp_path: Path, line: bytes):
    users = tmp_path / "known_hosts"
    users.write_bytes(b"# mine\n" + LINE.encode() + line)
    with pytest.raises(HostKeyError, match=r"known_hosts cannot be read, line 3") as caught:
        KnownHosts(tmp_path / "own", users).check("board", KEY, None)
    assert "remove" not in str(caught.value)
    assert "\n" not in str(caught.value)
