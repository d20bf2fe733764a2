"""Keys, agents and the way to a board, against real SSH servers and a real agent."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ofa_tvm.boards.address import SshAddress
from ofa_tvm.boards.login import connect
from ofa_tvm.boards.registry import known_hosts_file
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.errors import BoardUnreachableError, HostKeyError, UsageError

from ..processes import await_true
from .conftest import LIMIT_S, SshBoard


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
def behind(make_board: Callable[..., SshBoard], config: Callable[[str], None]) -> tuple[SshBoard, SshBoard]:
    """A gate, and a board that is reached from the gate alone."""
    gate, board = make_board(), make_board()
    config(
        f"Host gate\n HostName {gate.address}\n User root\n IdentityFile {gate.identity}\n"
        f"Host bench\n HostName {board.address}\n User root\n IdentityFile {board.identity}\n ProxyJump gate\n"
    )
    subprocess.run(["ip", "netns", "exec", gate.namespace, "ip", "route", "add", "default", "via", gate.host_address])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    return gate, board


def know(board: SshBoard) -> None:
    """As after a first login by hand."""
    kind, key, _ = (board.folder / "host.pub").read_text().split()
    with (Path.home() / ".ssh" / "known_hosts").open("a") as known:
        known.write(f"{board.address} {kind} {key}\n")
