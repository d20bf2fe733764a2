"""Keys, agents and the way to a board, against real SSH servers and a real agent."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from ofa_tvm.boards.address import SshAddress
from ofa_tvm.boards.host_keys import fingerprint
from ofa_tvm.boards.login import connect
from ofa_tvm.boards.registry import known_hosts_file
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.errors import BoardSetUpError, BoardUnreachableError, HostKeyError, UsageError

from ..processes import await_true
from .conftest import LIMIT_S, SSHD, SshBoard, ip


@pytest.fixture
def config() -> Callable[[str], None]:
    def write(text: str) -> None:
        path = Path.home() / ".ssh" / "config"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    return write


@pytest.fixture
def agent(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Adds a key to an agent of our own."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    await_true(path.exists)
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\necho secret\n")
    ask.chmod(0o700)

    def add(key: Path) -> None:
        asking = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", key], env=asking, check=True, stdin=subprocess.DEVNULL)

    yield add
    process.kill()
    process.wait()


def new_key(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


def log_in(board: SshBoard, host: str | None = None, *, identity: Path | None = None) -> SshConnection:
    address = SshAddress.parse(host) if host else board.ssh
    return connect(address, known_hosts=known_hosts_file(), identity=identity, accept_fingerprint=board.fingerprint)


@pytest.fixture
def full_agent(agent: Callable[[Path], None], tmp_path: Path) -> Callable[[Path], None]:
    """With more keys than a server lets one try."""
    for number in range(4):
        agent(new_key(tmp_path / f"stranger{number}"))
    return agent


def test_too_many_keys_of_the_agent_name_the_option(
    make_board: Callable[..., SshBoard], full_agent: Callable[[Path], None]
):
    board = make_board(settings="MaxAuthTries 3")
    full_agent(board.identity)  # but it comes too late
    with pytest.raises(BoardUnreachableError, match=r"hung up after 3 keys.*MaxAuthTries.*--identity FILE.*Identities"):
        log_in(board)


@pytest.mark.parametrize("passphrase", ["", "secret"])
def test_the_key_that_is_named_is_the_only_one_offered(
    make_board: Callable[..., SshBoard], full_agent: Callable[[Path], None], passphrase: str
):
    board = make_board(settings="MaxAuthTries 1")
    key = new_key(board.folder / "mine", passphrase)
    (board.folder / "authorized").write_bytes(key.with_suffix(".pub").read_bytes())
    full_agent(key)
    key.with_suffix(".pub").unlink()  # what is in the agent is known by the key's own file
    log_in(board, identity=key).close()


def test_identities_only_of_the_config_does_so_too(
    make_board: Callable[..., SshBoard], full_agent: Callable[[Path], None], config: Callable[[str], None]
):
    board = make_board(settings="MaxAuthTries 1")
    config(f"Host bench\n HostName {board.address}\n User root\n IdentityFile {board.identity}\n IdentitiesOnly yes\n")
    log_in(board, "bench").close()
    assert known_hosts_file().read_text().startswith(f"{board.address} ssh-ed25519 ")


@pytest.mark.parametrize("answer", [b"", b"\0\0\0\1\5", b"HTTP/1.1 400 Bad Request"])
def test_agent_that_is_none_is_named_and_hinders_no_other_key(
    ssh_board: SshBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
):
    path = tmp_path / "agent"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            for _ in range(2):
                with listener.accept()[0] as client:
                    client.sendall(answer)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        with pytest.raises(BoardUnreachableError, match=r"does not accept .*SSH agent at .*/agent .* gives no keys"):
            log_in(ssh_board)
        log_in(ssh_board, identity=ssh_board.identity).close()
        server.join(LIMIT_S)


def test_agent_that_has_gone_is_named(ssh_board: SshBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
    with pytest.raises(BoardUnreachableError, match=r"SSH agent at .*/gone .* gives no keys: No such file"):
        log_in(ssh_board)


def test_server_that_takes_no_keys(make_board: Callable[..., SshBoard]):
    board = make_board(settings="PubkeyAuthentication no\nKbdInteractiveAuthentication yes")
    with pytest.raises(BoardUnreachableError, match=r"takes no SSH keys.*PubkeyAuthentication yes"):
        log_in(board, identity=board.identity)


@pytest.fixture
def behind(make_board: Callable[..., SshBoard], config: Callable[[str], None]) -> Iterator[tuple[SshBoard, str]]:
    """A gate, and the fingerprint of a board called bench, which listens on an address that only the gate reaches."""
    gate = make_board()
    key = new_key(gate.folder / "inner")
    settings = (gate.folder / "sshd_config").read_text().replace(f"{gate.address}:22", "[::1]:2200")
    (gate.folder / "inner_config").write_text(settings.replace(f"HostKey {gate.folder}/host", f"HostKey {key}"))
    with (gate.folder / "inner.log").open("wb") as log:
        command = ["ip", "netns", "exec", gate.namespace, SSHD, "-D", "-e", "-f", gate.folder / "inner_config"]
        inner = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    await_true(lambda: "listening on ::1" in (gate.folder / "inner.log").read_text())
    config(
        f"IdentityFile {gate.identity}\nUser root\nHost gate\n HostName {gate.address}\n"
        "Host bench\n HostName ::1\n Port 2200\n ProxyJump gate\nHost far\n HostName ::1\n Port 2201\n ProxyJump gate\n"
    )
    yield gate, fingerprint(paramiko.Ed25519Key(filename=str(key)))
    inner.kill()
    inner.wait()


def to_bench(accepted: str | None = None) -> SshConnection:
    return connect(SshAddress.parse("bench"), known_hosts=known_hosts_file(), accept_fingerprint=accepted)


def test_a_board_behind_another_host_is_reached_and_every_host_key_on_the_way_is_checked(behind: tuple[SshBoard, str]):
    gate, inner = behind
    with pytest.raises(HostKeyError, match=f"host key of {gate.address} is unknown.*{re.escape(gate.fingerprint)}"):
        to_bench(inner)
    with pytest.raises(HostKeyError, match=rf"host key of \[::1\]:2200 is unknown.*{re.escape(inner)}"):
        to_bench(gate.fingerprint)  # which is for the gate, and is kept
    to_bench(inner).close()
    with to_bench() as connection:
        assert connection.run("echo $SSH_CONNECTION", LIMIT_S).stdout.split()[2:] == ["::1", "2200"]
        with pytest.raises(BoardSetUpError, match="through another host"):
            connection.host_address()
    await_true(lambda: not gate.processes("@notty"))


def test_a_gate_that_leads_nowhere(behind: tuple[SshBoard, str]):
    gate, _ = behind
    with pytest.raises(BoardUnreachableError, match=r"the host before root@far:2201 .* does not lead there"):
        connect(SshAddress.parse("far"), known_hosts=known_hosts_file(), accept_fingerprint=gate.fingerprint)


def test_jumps_in_a_circle(state: Path, config: Callable[[str], None]):
    config("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(UsageError, match=r"ProxyJump of ~/\.ssh/config never comes to"):
        connect(SshAddress.parse("a"), known_hosts=known_hosts_file())


def test_a_proxy_command_is_the_way(ssh_board: SshBoard, config: Callable[[str], None]):
    relay = "import socket,sys,threading; s=socket.create_connection((sys.argv[1], int(sys.argv[2])));\n"
    relay += "threading.Thread(target=lambda: [sys.stdout.buffer.write(b) or sys.stdout.flush() for b in"
    relay += " iter(lambda: s.recv(4096), b'')], daemon=True).start()\n"
    relay += "[s.sendall(b) for b in iter(lambda: sys.stdin.buffer.read1(4096), b'')]\n"
    script = ssh_board.folder / "relay.py"
    script.write_text(relay)
    config(f"Host bench\n HostName {ssh_board.address}\n User root\n ProxyCommand {sys.executable} {script} %h %p\n")
    with log_in(ssh_board, "bench", identity=ssh_board.identity) as connection:
        assert connection.run("echo here", LIMIT_S).stdout == "here\n"


def test_a_link_local_address_with_its_zone(make_board: Callable[..., SshBoard]):
    board = make_board(settings="ListenAddress [::]:22")
    ip("address", "add", "fe80::1:1/64", "dev", board.namespace, "nodad")
    ip("-n", board.namespace, "address", "add", "fe80::1:2/64", "dev", "eth0", "nodad")
    with log_in(board, f"root@[fe80::1:2%{board.namespace}]:22", identity=board.identity) as connection:
        assert connection.host_address() == "fe80::1:1%eth0"  # the zone is the board's
