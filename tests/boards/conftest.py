"""A board for tests: an OpenSSH server in a network namespace of its own, with its own address, loopback and home.

It is this machine in all else, so that what runs there is quick; an emulated arm64 board is tested elsewhere.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import psutil
import pytest

from ofa_tvm.boards.address import SshAddress
from ofa_tvm.boards.host_keys import fingerprint
from ofa_tvm.boards.login import connect
from ofa_tvm.boards.registry import Board, known_hosts_file
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.measurement.tracker import TrackerAddress, summarize

from ..processes import PATIENCE_S, await_true, free_port, lives, send, words_of

ROOT = Path(__file__).parents[2]
SSHD = "/usr/sbin/sshd"
LIMIT_S = PATIENCE_S


class SshBoard:
    """The server, its keys, and the ways in which it breaks."""

    numbers = itertools.count()

    def __init__(self, folder: Path, user: str = "root", sftp: str = "internal-sftp", settings: str = "") -> None:
        self.folder, self.user = folder, user
        self.home = folder / "home" if user == "root" else Path("/home") / user
        (folder / "home").mkdir()
        number = next(self.numbers)  # the kernel takes its time to remove a namespace: no name comes twice
        self.namespace = f"ofatvm{os.getpid() % 10000}n{number}"
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        # Workers have networks apart, for the numbers of their processes are close; and one makes more than a hundred
        # boards, of which the first may be there to the end.
        third, fourth = divmod((os.getpid() + number) % (64 * 64), 64)
        subnet = f"10.214.{worker % 4 * 64 + third}"
        self.host_address, self.address = f"{subnet}.{4 * fourth + 1}", f"{subnet}.{4 * fourth + 2}"
        self.identity = folder / "client"
        for name in ("client", "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        authorized = (folder if user == "root" else self.home) / "authorized"
        if user == "root":
            authorized.write_bytes((folder / "client.pub").read_bytes())
        (folder / "sshd_config").write_text(
            f"ListenAddress {self.address}:22\nHostKey {folder}/host\nAuthorizedKeysFile {authorized}\n"
            "UsePAM no\nStrictModes no\nPidFile none\nPasswordAuthentication no\n"
            + f"Subsystem sftp {sftp}\n" * bool(sftp)
            + f"{settings}\n"
            + f"SetEnv HOME={self.home} PATH={self.home}/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        )
        self._server: subprocess.Popen[bytes] | None = None
        Path("/run/sshd").mkdir(exist_ok=True)
        try:
            self._make_network()
            self.start()
        except BaseException:
            self.close()
            raise

    def _make_network(self) -> None:
        ip("netns", "add", self.namespace)
        ip("link", "add", self.namespace, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("address", "add", f"{self.host_address}/30", "dev", self.namespace)
        ip("link", "set", self.namespace, "up")
        ip("-n", self.namespace, "address", "add", f"{self.address}/30", "dev", "eth0")
        ip("-n", self.namespace, "link", "set", "eth0", "up")
        ip("-n", self.namespace, "link", "set", "lo", "up")

    @property
    def ssh(self) -> SshAddress:
        return SshAddress(self.user, self.address)

    @property
    def fingerprint(self) -> str:
        return fingerprint(paramiko.Ed25519Key(filename=str(self.folder / "host")))

    def start(self) -> None:
        if self._server:
            self._server.wait(LIMIT_S)
        command = ["ip", "netns", "exec", self.namespace, SSHD, "-D", "-e", "-f", self.folder / "sshd_config"]
        if self.user != "root":
            command[4:4] = ["sh", "-ec", self._add_user(), "sh"]
        with (self.folder / "sshd.log").open("ab") as log:
            self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        await_true(self._answers, what=lambda: f"{self.address}: {(self.folder / 'sshd.log').read_text()}")

    def _add_user(self) -> str:
        """Make a user that only the board knows, with a home that is gone with the board."""
        passwd = self.folder / "passwd"
        passwd.write_text(f"{Path('/etc/passwd').read_text()}{self.user}:x:4321:4321::{self.home}:/bin/sh\n")
        return f"""
            mount --bind {passwd} /etc/passwd
            mount -t tmpfs none /home
            mkdir {self.home}
            cp {self.folder}/client.pub {self.home}/authorized
            chown -R 4321:4321 {self.home}
            exec "$@"
        """

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.address, 22), timeout=10) as stream:
            return stream.recv(4) == b"SSH-"
        return False

    def connect(self) -> SshConnection:
        return connect(
            self.ssh, known_hosts=known_hosts_file(), identity=self.identity, accept_fingerprint=self.fingerprint
        )

    def processes(self, word: str = "") -> list[psutil.Process]:
        """Those on the board whose command line has the word."""
        run = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True)
        found = []
        for pid in map(int, run.stdout.split()):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if word in " ".join(words_of(process)) and lives(process):
                    found.append(process)
        return found

    def sessions(self) -> list[psutil.Process]:
        """The SSH server's processes that serve connections."""
        assert self._server
        return [process for process in self.processes("sshd") if process.pid != self._server.pid]

    def shrink_disk(self, size: str) -> None:
        """Put the home on a disk of this size, which only the board sees."""
        assert self._server
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", self.home]
        subprocess.run(["nsenter", "--mount", "--target", str(self._server.pid), *mount], check=True)

    def close(self) -> None:
        send(self.processes())
        if self._server:
            self._server.wait(LIMIT_S)
        for command in (["link", "delete", self.namespace], ["netns", "delete", self.namespace]):
            with contextlib.suppress(AssertionError):  # it may never have come so far
                ip(*command)


def ip(*arguments: str) -> None:
    run = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert run.returncode == 0, f"ip {' '.join(arguments)}: {run.stderr}"


@pytest.fixture(scope="session")
def possible() -> None:
    """These tests need root, to make network namespaces, and an SSH server."""
    missing = [] if os.geteuid() == 0 else ["root"]
    missing += [program for program in (SSHD, "ip", "ssh-keygen", "gcc") if not shutil.which(program)]
    if missing:
        reason = f"boards over SSH are tested with {', '.join(missing)}, which this machine lacks"
        if os.environ.get("OFA_TVM_REQUIRE_EMULATION") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def cache(shared: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """Packages and the native server, fetched and built once for all tests, under locks of their own."""
    return shared("cache of boards", lambda _empty: None)


@pytest.fixture
def state(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing of the user's is read or written: keys, agent, known hosts, state, cache. No link may be left."""
    folder = tmp_path / "state"
    (tmp_path / "user").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("OFA_TVM_STATE", str(folder))
    for name in ("SSH_AUTH_SOCK", "XDG_STATE_HOME", "OFA_TVM_TRACKER"):
        monkeypatch.delenv(name, raising=False)
    yield folder
    try:
        await_true(lambda: not links(str(folder)), 10)  # the last may be ending
    finally:
        send(links(str(folder)))


def links(state: str | None = None) -> list[psutil.Process]:
    """The processes of all links of this test: others may run at the same time."""
    state = state or os.environ["OFA_TVM_STATE"]
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if "ofa_tvm.boards.link" in (process.info["cmdline"] or [])
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and _state_of(process) == state
    ]


def _state_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("OFA_TVM_STATE")
    except psutil.Error:
        return None


@pytest.fixture
def make_board(possible: None, state: Path, tmp_path: Path) -> Iterator[Callable[..., SshBoard]]:
    boards: list[SshBoard] = []

    def make(user: str = "root", **options: str) -> SshBoard:
        folder = tmp_path / f"board{len(boards)}"
        folder.mkdir()
        boards.append(SshBoard(folder, user, **options))
        return boards[-1]

    yield make
    for board in boards:
        board.close()


@pytest.fixture
def ssh_board(make_board: Callable[..., SshBoard]) -> SshBoard:
    return make_board()


@pytest.fixture
def connection(ssh_board: SshBoard) -> Iterator[SshConnection]:
    with ssh_board.connect() as connection:
        yield connection


@pytest.fixture
def board(ssh_board: SshBoard) -> Board:
    """What this host knows before it is set up."""
    return Board(
        name="bench", target="rasp4", key="rasp4", user="root", host=ssh_board.address, identity=ssh_board.identity
    )


class Tracker:
    """An RPC tracker that can be killed and started again on its port."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self.address = TrackerAddress("127.0.0.1", free_port())
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [sys.executable, ROOT / "rpc" / "tracker.py", "--host", self._host, "--port", str(self.address.port)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        await_true(self._answers)

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def free(self, key: str = "rasp4") -> int:
        return summarize(self.address).free.get(key, 0)

    def _answers(self) -> bool:
        with contextlib.suppress(Exception):
            return bool(summarize(self.address))
        return False


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    tracker = Tracker()
    yield tracker
    tracker.kill()
