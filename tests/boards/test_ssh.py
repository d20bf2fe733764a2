"""Logging in, commands and files, against a real SSH server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ofa_tvm.boards import login
from ofa_tvm.boards.address import SshAddress
from ofa_tvm.boards.login import connect
from ofa_tvm.boards.registry import known_hosts_file
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.errors import BoardSetUpError, BoardUnreachableError, HostKeyError

from ..processes import await_true, send
from .conftest import LIMIT_S, SshBoard, ip


def test_unknown_host_key_is_refused_with_the_option_that_accepts_it(ssh_board: SshBoard):
    with pytest.raises(HostKeyError) as caught:
        connect(ssh_board.ssh, known_hosts=known_hosts_file(), identity=ssh_board.identity)
    printed = subprocess.run(
        ["ssh-keygen", "-lf", ssh_board.folder / "host.pub"], capture_output=True, text=True, check=True
    ).stdout
    assert ssh_board.fingerprint in printed
    assert f"ssh-ed25519 {ssh_board.fingerprint}" in str(caught.value)
    assert f"--accept-host-key {ssh_board.fingerprint}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not known_hosts_file().exists()


def test_accepted_host_key_is_kept(ssh_board: SshBoard):
    ssh_board.connect().close()
    assert known_hosts_file().read_text().startswith(f"{ssh_board.address} ssh-ed25519 ")
    connect(ssh_board.ssh, known_hosts=known_hosts_file(), identity=ssh_board.identity).close()


def test_host_key_that_the_user_s_own_ssh_knows_is_known(ssh_board: SshBoard):
    users = Path.home() / ".ssh" / "known_hosts"
    users.parent.mkdir()
    kind, key, _ = (ssh_board.folder / "host.pub").read_text().split()
    users.write_text(f"{ssh_board.address} {kind} {key}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", users], check=True, capture_output=True)  # hashed names
    before = users.read_bytes()
    connect(ssh_board.ssh, known_hosts=known_hosts_file(), identity=ssh_board.identity).close()
    assert users.read_bytes() == before
    assert not known_hosts_file().exists()


@pytest.mark.parametrize(
    ("accepted", "words"), [("SHA256:" + "A" * 43, "not the accepted SHA256:AAAA"), ("yes", "is no fingerprint")]
)
def test_other_fingerprint_is_not_accepted(ssh_board: SshBoard, accepted: str, words: str):
    with pytest.raises(HostKeyError, match=words):
        connect(ssh_board.ssh, known_hosts=known_hosts_file(), identity=ssh_board.identity, accept_fingerprint=accepted)
    assert not known_hosts_file().exists()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_changed_host_key_says_what_is_known_what_came_and_which_file(ssh_board: SshBoard, kind: str):
    other = ssh_board.folder / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", other], check=True)
    algorithm, key, _ = other.with_suffix(".pub").read_text().split()
    known_hosts_file().parent.mkdir(parents=True)
    known_hosts_file().write_text(f"{ssh_board.address} {algorithm} {key}\n")
    known = subprocess.run(["ssh-keygen", "-lf", other], capture_output=True, text=True, check=True).stdout.split()[1]
    with pytest.raises(HostKeyError, match="has changed") as caught:
        ssh_board.connect()  # although it comes with the fingerprint that is accepted
    for part in (known, ssh_board.fingerprint, str(known_hosts_file())):
        assert part in str(caught.value)


def test_lines_that_say_nothing_here_leave_the_others_of_the_file_good(ssh_board: SshBoard):
    kind, key, _ = (ssh_board.folder / "host.pub").read_text().split()
    known_hosts_file().parent.mkdir(parents=True)
    known_hosts_file().write_bytes(
        b"\xff\xfe\n@cert-authority *.lab ssh-ed25519 AAAA\n" + f"{ssh_board.address}  \t{kind}  {key}\n".encode()
    )
    connect(ssh_board.ssh, known_hosts=known_hosts_file(), identity=ssh_board.identity).close()


def test_revoked_host_key_is_refused_even_if_it_is_accepted(ssh_board: SshBoard):
    users = Path.home() / ".ssh" / "known_hosts"
    users.parent.mkdir()
    users.write_text(f"@revoked * {(ssh_board.folder / 'host.pub').read_text()}")
    with pytest.raises(HostKeyError, match="is revoked"):
        ssh_board.connect()
    assert not known_hosts_file().exists()


def test_wrong_key_says_how_to_put_the_right_one_there(ssh_board: SshBoard):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh_board.folder / "stranger"], check=True)
    with pytest.raises(BoardUnreachableError, match=r"does not accept the key .*stranger.*ssh-copy-id -p 22 -i"):
        _connect_with(ssh_board, ssh_board.folder / "stranger")


def test_no_key_at_all(ssh_board: SshBoard):
    with pytest.raises(BoardUnreachableError, match="any key of your SSH agent or"):
        _connect_with(ssh_board, None)


def test_key_with_a_passphrase_is_for_the_agent(ssh_board: SshBoard):
    locked = ssh_board.folder / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", locked], check=True)
    (ssh_board.folder / "authorized").write_bytes(locked.with_suffix(".pub").read_bytes())
    with pytest.raises(BoardUnreachableError, match=r"has a passphrase.*ssh-add"):
        _connect_with(ssh_board, locked)


def test_key_of_the_agent_opens(ssh_board: SshBoard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    locked, ask = ssh_board.folder / "locked", tmp_path / "ask"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", locked], check=True)
    (ssh_board.folder / "authorized").write_bytes(locked.with_suffix(".pub").read_bytes())
    ask.write_text("#!/bin/sh\necho secret\n")
    ask.chmod(0o700)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        await_true(lambda: subprocess.run(["ssh-add", "-l"], capture_output=True).returncode != 2)  # which is: no agent
        asking = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", locked], env=asking, check=True, stdin=subprocess.DEVNULL)
        _connect_with(ssh_board, None).close()
    finally:
        agent.kill()
        agent.wait()


@pytest.mark.parametrize("content", [None, "no key at all\n"])
def test_identity_that_is_no_key(ssh_board: SshBoard, content: str | None):
    path = ssh_board.folder / "identity"
    if content:
        path.write_text(content)
    with pytest.raises(BoardUnreachableError, match="identity") as caught:
        _connect_with(ssh_board, path)
    assert "\n" not in str(caught.value)


def test_no_ssh_server(ssh_board: SshBoard):
    with pytest.raises(BoardUnreachableError, match=r"refuses connections to port 23.*systemctl enable --now ssh"):
        connect(SshAddress("root", ssh_board.address, 23), known_hosts=known_hosts_file())


def test_unknown_host():
    with pytest.raises(BoardUnreachableError, match=r"no host 'board\.invalid'"):
        connect(SshAddress("root", "board.invalid"), known_hosts=known_hosts_file())


def test_host_that_swallows_everything(ssh_board: SshBoard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(login, "CONNECT_LIMIT_S", 0.5)
    ip("-n", ssh_board.namespace, "link", "set", "eth0", "arp", "off")
    ip("-n", ssh_board.namespace, "route", "add", "blackhole", f"{ssh_board.host_address}/32")
    with pytest.raises(BoardUnreachableError, match="did not answer within"):
        ssh_board.connect()


def test_something_else_that_says_nothing(ssh_board: SshBoard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(login, "CONNECT_LIMIT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = SshAddress("root", *silent.getsockname())
        with pytest.raises(BoardUnreachableError, match="does not talk SSH as it should"):
            connect(address, known_hosts=known_hosts_file())


def test_commands_give_code_and_both_streams(connection: SshConnection):
    result = connection.run("echo 'a \"b\"'; echo c >&2; exit 3", LIMIT_S)
    assert result == (3, 'a "b"\n', "c\n")
    assert result.reason == "c"


def test_long_output_comes_whole(connection: SshConnection):
    assert len(connection.run("head -c 20000000 /dev/zero | tr '\\0' x", LIMIT_S).stdout) == 20_000_000


def test_command_has_a_limit(connection: SshConnection):
    with pytest.raises(BoardUnreachableError, match=r"within 1 s; look at it: ssh root@"):
        connection.run("sleep 1000", 1)
    assert connection.run("echo still here", LIMIT_S).stdout == "still here\n"


def test_command_that_passes_its_limit_ends_with_all_it_started(connection: SshConnection, ssh_board: SshBoard):
    with pytest.raises(BoardUnreachableError, match="within 1 s"):
        connection.run("trap '' TERM; sleep 1234 & sleep 1234; sleep 1234", 1)
    await_true(lambda: not ssh_board.processes("1234"))


def test_command_whose_output_begins_like_our_own_first_line(connection: SshConnection):
    assert connection.run("echo pid=1; echo 2", LIMIT_S).stdout == "pid=1\n2\n"


def test_killed_command(connection: SshConnection):
    assert connection.run("kill -9 $$", LIMIT_S).code == 137


def test_cut_connection_is_said(ssh_board: SshBoard, connection: SshConnection):
    send(ssh_board.sessions())
    with pytest.raises(BoardUnreachableError, match="the connection to root@"):
        connection.run("sleep 1000", LIMIT_S)


@contextlib.contextmanager
def _frozen(ssh_board: SshBoard) -> Iterator[None]:
    processes = ssh_board.processes()
    send(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        send(processes, signal.SIGCONT)


def test_frozen_board_is_not_waited_for_forever(
    ssh_board: SshBoard, connection: SshConnection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ofa_tvm.boards.ssh.OPEN_LIMIT_S", 1.0)
    with _frozen(ssh_board), pytest.raises(BoardUnreachableError):
        connection.run("true", 1)


def test_files_arrive_whole_and_with_progress(connection: SshConnection, ssh_board: SshBoard, tmp_path: Path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    seen: list[int] = []
    destination = ssh_board.home / "it's here"
    connection.put_file(source, str(destination), seen.append, 0o755)
    assert destination.read_bytes() == source.read_bytes()
    assert destination.stat().st_mode & 0o777 == 0o755
    assert seen == sorted(seen)
    assert seen[-1] == 3_000_000
    assert list(ssh_board.home.iterdir()) == [destination]


def test_full_disk_leaves_no_part(connection: SshConnection, ssh_board: SshBoard, tmp_path: Path):
    ssh_board.shrink_disk("1m")
    source = tmp_path / "source"
    source.write_bytes(bytes(3_000_000))
    with pytest.raises(BoardSetUpError, match=r"cannot write .*0 MiB are free"):
        connection.put_file(source, str(ssh_board.home / "x"))
    assert connection.run("ls -A ~", LIMIT_S).stdout == ""


def _connect_with(ssh_board: SshBoard, identity: Path | None) -> SshConnection:
    return connect(
        ssh_board.ssh, known_hosts=known_hosts_file(), identity=identity, accept_fingerprint=ssh_board.fingerprint
    )
