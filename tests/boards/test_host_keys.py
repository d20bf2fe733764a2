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


HASHED = paramiko.HostKeys.hash_host("board")
KEYED = f"{KEY.get_name()} {KEY.get_base64()}"


@pytest.mark.parametrize(
    "line",
    [
        f"board {KEYED} me@here",
        f"  board  {KEYED}",
        f"board\t{KEYED.replace(' ', chr(9))}",
        f"other,board {KEYED}",
        f"BOARD {KEYED}",
        f"b*d {KEYED}",
        f"{HASHED} {KEYED}",
    ],
    ids=["comment", "blanks", "tabs", "names", "case", "pattern", "hash"],
)
def test_every_form_of_line_is_read(tmp_path: Path, line: str):
    users = tmp_path / "known_hosts"
    users.write_bytes(
        b"# mine\n\n@cert-authority * ssh-ed25519 A\n@strange x y z\n"
        b"board ssh-future AAAA\nboard ssh-ed25519 A\n\xff\xfe\n" + line.encode()
    )
    KnownHosts(tmp_path / "own", users).check("board", KEY, None)


@pytest.mark.parametrize(
    "line",
    [f"boards {KEYED}", f"!board,* {KEYED}", f"@cert-authority board {KEYED}", "|1|x|y a b"],
    ids=["longer", "excepted", "authority", "hash"],
)
def test_lines_about_others_make_no_host_known(tmp_path: Path, line: str):
    users = tmp_path / "known_hosts"
    users.write_text(line)
    with pytest.raises(HostKeyError, match=r"host key of board is unknown: ecdsa"):
        KnownHosts(tmp_path / "own", users).check("board", KEY, None)


@pytest.mark.parametrize("line", ["board ssh-ed25519 A", "board ssh-ed25519", "board"])
def test_damaged_line_about_the_host_is_named(tmp_path: Path, line: str):
    users = tmp_path / "known_hosts"
    users.write_text(f"# mine\n{line}\n")
    with pytest.raises(HostKeyError, match=r"is unknown \(.*known_hosts, line 2: that is no host key\)") as caught:
        KnownHosts(tmp_path / "own", users).check("board", KEY, None)
    assert "\n" not in str(caught.value)


def test_each_of_several_keys_of_a_type_is_the_host_s(tmp_path: Path):
    users = tmp_path / "known_hosts"
    other = paramiko.ECDSAKey.generate()
    users.write_text(f"board {other.get_name()} {other.get_base64()}\nboard {KEYED}\n")
    for key in (other, KEY):
        KnownHosts(tmp_path / "own", users).check("board", key, None)
    with pytest.raises(HostKeyError, match="has changed"):
        KnownHosts(tmp_path / "own", users).check("board", paramiko.ECDSAKey.generate(), None)


@pytest.mark.parametrize("names", ["*", "board", HASHED], ids=["pattern", "name", "hash"])
def test_revoked_key_is_refused_wherever_it_is_known(tmp_path: Path, names: str):
    own, users = tmp_path / "own", tmp_path / "users"
    own.write_text(f"board {KEYED}\n")
    users.write_text(f"@revoked\t{names} {KEYED}\n")
    with pytest.raises(HostKeyError, match=r"is revoked \(.*users, line 1\)"):
        KnownHosts(own, users).check("board", KEY, fingerprint(KEY))
