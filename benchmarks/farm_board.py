"""A board that is this very machine, behind a real SSH server in namespaces of its own."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import paramiko

from ofa_tvm.boards.emulation.host import environment
from ofa_tvm.boards.emulation.keys import generate_key
from ofa_tvm.boards.emulation.network import PREFIX, Cable, plug_in
from ofa_tvm.boards.host_keys import fingerprint
from ofa_tvm.boards.installing import install
from ofa_tvm.boards.lifecycle import start, stop
from ofa_tvm.boards.registry import Board
from ofa_tvm.boards.service import server_command
from ofa_tvm.errors import BoardUnreachableError, EmulationError
from ofa_tvm.measurement.tracker import TrackerAddress
from ofa_tvm.reporting import Say
from ofa_tvm.targets import Target

SSHD = "/usr/sbin/sshd"
PACKAGES = {SSHD: "openssh-server", "ip": "iproute2", "unshare": "util-linux", "setpriv": "util-linux"}
LIMIT_S = 20.0
POLL_PERIOD_S = 0.02
# Says that the namespaces are there, and is told its address when the cable is plugged in.
_INIT = f"""
ip link set lo up
mount -t tmpfs tmpfs /run
mkdir /run/sshd
echo up
read -r address
ip address add "$address" dev eth0
ip link set eth0 up
exec {SSHD} -D -e -f "$1" </dev/null >/dev/null
"""


@contextlib.contextmanager
def local_board(target: Target, tracker: TrackerAddress, say: Say) -> Iterator[Board]:
    """The board with the native server installed, at the tracker through its link; nothing of it is left afterwards.

    Raises
    ------
    EmulationError, BoardUnreachableError, BoardSetUpError
        It can't be had here.
    """
    with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as name:
        folder = Path(name)
        state = {"OFA_TVM_STATE": str(folder / "state")}  # nothing of the user's boards and host keys is touched
        with mock.patch.dict(os.environ, state), _ssh_server(folder) as (address, host_key):
            board = Board(
                name="this-machine",
                target=target.name,
                key=target.device.key,
                user="root",
                host=address,
                identity=folder / "client",
            )
            board, _ = install(board, say, runtime="native", accept_fingerprint=fingerprint(host_key))
            board = start(board, tracker, say, tethered=True)
            try:
                yield board
            finally:
                stop(board, say)


@contextlib.contextmanager
def server_beside(board: Board, target: Target, tracker: TrackerAddress) -> Iterator[None]:
    """The board's native server once more, here and without a tunnel, with the target's key at the tracker."""
    command = server_command(board.model_copy(update={"key": target.device.key, "port": 0}), str(tracker))
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *command],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def require_ssh_server() -> None:
    """Make sure that `local_board` can be had.

    Raises
    ------
    EmulationError
        Something is missing here.
    """
    missing = [] if os.geteuid() == 0 else ["root"]
    path = environment()["PATH"]
    missing += [package for program, package in PACKAGES.items() if shutil.which(program, path=path) is None]
    if missing:
        raise EmulationError(f"no SSH tunnel here: it takes {' and '.join(sorted(set(missing)))}")


@contextlib.contextmanager
def _ssh_server(folder: Path) -> Iterator[tuple[str, paramiko.PKey]]:
    """Its address, and its host key."""
    generate_key(folder / "client")
    host_key = paramiko.Ed25519Key(data=base64.b64decode(generate_key(folder / "host").split()[1]))
    config, home = folder / "sshd_config", folder / "home"
    home.mkdir()
    config.write_text(
        f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/client.pub\nStrictModes no\nPidFile none\nUsePAM no\n"
        f"PasswordAuthentication no\nSubsystem sftp internal-sftp\nSetEnv HOME={home}\n"
    )
    namespaces = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child=KILL", "--mount-proc"]
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *namespaces, "sh", "-ec", _INIT, "sh", config],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            env=environment(),
            start_new_session=True,
        )
    cable = None
    try:
        address = _plug_in(process, log)
        cable = Cable.of(address)
        _await_greeting(address, process, log)
        yield address, host_key
    finally:
        process.kill()  # and with it all that runs on the board
        process.wait(LIMIT_S)
        if cable is not None:
            cable.await_end(LIMIT_S)


def _plug_in(process: subprocess.Popen[bytes], log: Path) -> str:
    """Give the namespaces a cable, and tell them their address; that address."""
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        if not select.select([process.stdout], [], [], LIMIT_S)[0] or process.stdout.readline() != b"up\n":
            raise EmulationError(f"no namespaces for an SSH server: {_last_line(log)}")
        address = plug_in(process.pid)
        process.stdin.write(f"{address}/{PREFIX}\n".encode())
    return address


def _await_greeting(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((address, 22), 1) as connection:
            if connection.recv(4) == b"SSH-":
                return
        time.sleep(POLL_PERIOD_S)
    raise BoardUnreachableError(f"the SSH server at {address} did not answer: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text().strip().splitlines()
    return lines[-1] if lines else "it was silent"
