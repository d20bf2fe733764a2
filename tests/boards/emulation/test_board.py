"""An emulated board is an arm64 machine of its own, reached over real SSH and from this host alone."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import psutil
import pytest

from ofa_tvm.boards.emulation.board import EmulatedBoard, find_boards

Connect = Callable[[EmulatedBoard], contextlib.AbstractContextManager[paramiko.SSHClient]]
Run = Callable[..., str]

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
CROSS_COMPILER = "aarch64-linux-gnu-g++"
LISTENER = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"hello")
    connection.close()
"""
CONNECT = 'import socket; socket.create_connection(("127.0.0.1", {port}), 5)'
DOT_PRODUCT = """
#include <arm_neon.h>
int main(int count, char **) {
    int8x16_t ones = vdupq_n_s8(count);
    return vgetq_lane_s32(vdotq_s32(vdupq_n_s32(0), ones, ones), 0) == 4 ? 0 : 1;
}
"""


def listening() -> set[tuple[str, int]]:
    """What this host listens on beyond loopback, but for what pytest's other workers started."""
    others = started_by_other_workers()
    sockets = [s for s in psutil.net_connections(kind="inet") if s.status == psutil.CONN_LISTEN and s.pid not in others]
    return {(s.laddr.ip, s.laddr.port) for s in sockets if s.laddr.ip != "127.0.0.1"}


def started_by_other_workers() -> set[int]:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return set()
    workers = psutil.Process(os.getppid()).children()
    return {
        p.pid for worker in workers if worker.pid != os.getpid() for p in [worker, *worker.children(recursive=True)]
    }


@pytest.fixture(scope="module")
def before(base: Path) -> tuple[set[tuple[str, int]], str]:
    return listening(), IP_FORWARD.read_text()


@pytest.fixture(scope="module")
def board(before: object, module_boards: Callable[[str], EmulatedBoard]) -> EmulatedBoard:
    return module_boards("rasp4-emulated")


@pytest.fixture(scope="module")
def client(board: EmulatedBoard, connect: Connect) -> Iterator[paramiko.SSHClient]:
    with connect(board) as client:
        yield client


@pytest.fixture(scope="module")
def run() -> Run:
    """Runs a command on a board; what it printed."""

    def run(client: paramiko.SSHClient, command: str, *, exit_code: int = 0) -> str:
        _, output, errors = client.exec_command(command, timeout=240)
        printed = output.read().decode().strip()
        assert output.channel.recv_exit_status() == exit_code, errors.read().decode()
        return printed

    return run


@pytest.fixture
def port_on_board(client: paramiko.SSHClient) -> Iterator[int]:
    """A port that a program on the board listens on, on the board's loopback."""
    channel = client.get_transport().open_session()
    channel.get_pty()  # the program ends with its terminal
    channel.settimeout(60)
    channel.exec_command(f"exec python3 -u -c '{LISTENER}'")
    yield int(channel.makefile("r").readline())
    channel.close()


def test_it_is_an_arm64_machine_with_a_name_and_an_emulated_mark(client: paramiko.SSHClient, run: Run):
    assert run(client, "uname -m") == "aarch64"
    assert run(client, "hostname") == "rasp4-emulated"
    assert run(client, "getent hosts rasp4-emulated").startswith("127.0.0.1")
    assert "emulated" in run(client, "cat /etc/ofa_tvm-emulated")


def test_it_shows_the_targets_core(client: paramiko.SSHClient, run: Run):
    cpuinfo = run(client, "cat /proc/cpuinfo")
    assert cpuinfo.count("processor\t") == 4
    assert "CPU part\t: 0xd08" in cpuinfo
    assert "fp asimd evtstrm crc32 cpuid\n" in cpuinfo
    assert "emulated by QEMU" in cpuinfo
    assert run(client, "ls /sys") == ""


@pytest.mark.skipif(not shutil.which(CROSS_COMPILER), reason=f"no {CROSS_COMPILER} here")
def test_instructions_its_core_lacks_end_a_program(client: paramiko.SSHClient, run: Run, tmp_path: Path):
    source, program = tmp_path / "dot.cpp", tmp_path / "dot"
    source.write_text(DOT_PRODUCT)
    subprocess.run([CROSS_COMPILER, "-static", "-march=armv8.2-a+dotprod", "-o", program, source], check=True)
    with client.open_sftp() as files:
        files.put(str(program), "/tmp/dot")
        files.chmod("/tmp/dot", 0o755)
    run(client, "QEMU_CPU=cortex-a76 /tmp/dot")
    run(client, "/tmp/dot; exit $?", exit_code=128 + signal.SIGILL)


def test_python_runs_there(client: paramiko.SSHClient, run: Run):
    assert run(client, "python3 -c 'import platform, ssl, sqlite3; print(platform.machine())'") == "aarch64"


@pytest.mark.slow
def test_virtual_environment_with_pip_can_be_made(client: paramiko.SSHClient, run: Run):
    run(client, "python3 -m venv /root/environment")
    assert "/root/environment" in run(client, "/root/environment/bin/pip --version")


def test_files_arrive_unchanged(client: paramiko.SSHClient):
    content = bytes(range(256)) * 4096
    with client.open_sftp() as files:
        with files.open("/root/file", "wb") as stream:
            stream.write(content)
        with files.open("/root/file", "rb") as stream:
            stream.prefetch()
            assert stream.read() == content


def test_only_its_own_key_is_let_in(board: EmulatedBoard, tmp_path: Path):
    assert stat.S_IMODE(board.identity.stat().st_mode) == 0o600
    assert stat.S_IMODE(board.folder.stat().st_mode) == 0o700
    with paramiko.Transport((board.address, board.ssh_port)) as transport:
        transport.start_client(timeout=60)
        assert f"{transport.get_remote_server_key().get_name()} {transport.get_remote_server_key().get_base64()}" == (
            board.host_key
        )
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_none(board.user)
        assert refused.value.allowed_types == ["publickey"]
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey(board.user, paramiko.RSAKey.generate(2048))


def test_its_loopback_is_its_own(client: paramiko.SSHClient, run: Run, port_on_board: int):
    run(client, f"python3 -c '{CONNECT.format(port=port_on_board)}'")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_on_board), 5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run(client, f"python3 -c '{CONNECT.format(port=listener.getsockname()[1])}' 2>/dev/null", exit_code=1)


def test_ssh_forwards_to_its_loopback_and_back(client: paramiko.SSHClient, run: Run, port_on_board: int):
    transport = client.get_transport()
    with transport.open_channel("direct-tcpip", ("127.0.0.1", port_on_board), ("127.0.0.1", 0), timeout=60) as channel:
        assert channel.recv(5) == b"hello"
    port = transport.request_port_forward("127.0.0.1", 0)
    run(client, f"python3 -c '{CONNECT.format(port=port)}'")
    assert transport.accept(60) is not None
    transport.cancel_port_forward("127.0.0.1", port)


def test_two_boards_are_apart(
    board: EmulatedBoard,
    module_boards: Callable[[str], EmulatedBoard],
    connect: Connect,
    run: Run,
    port_on_board: int,
):
    other = module_boards("another")
    assert find_boards(board.folder.parent) == [other, board]
    assert (other.address, other.host_key, other.pid) != (board.address, board.host_key, board.pid)
    with connect(other) as client:
        assert run(client, "hostname") == "another"
        machine_ids = {run(client, "cat /etc/machine-id")}
        run(client, f"python3 -c '{CONNECT.format(port=port_on_board)}' 2>/dev/null", exit_code=1)
        reaching = f'import socket; socket.create_connection(("{board.address}", 22), 5)'
        run(client, f"python3 -c '{reaching}' 2>/dev/null", exit_code=1)
        run(client, "echo changed > /etc/issue")
    with connect(board) as client:
        assert "changed" not in run(client, "cat /etc/issue")
        machine_ids.add(run(client, "cat /etc/machine-id"))
    assert len(machine_ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", machine_id) for machine_id in machine_ids)


def test_the_host_is_as_it_was(
    board: EmulatedBoard, before: tuple[set[tuple[str, int]], str], base: Path, eventually: Callable[..., None]
):
    sockets, forwarding = before
    eventually(lambda: listening() <= sockets)  # at once, but for what another worker starts at this very moment
    assert IP_FORWARD.read_text() == forwarding
    assert str(board.folder) not in Path("/proc/mounts").read_text()
    assert not (base / "root/.ssh").exists()


@pytest.mark.parametrize("path", ["/proc/sys/net/ipv4/ip_forward", "/proc/cpuinfo"])
def test_what_is_the_hosts_is_out_of_its_reach(client: paramiko.SSHClient, run: Run, path: str):
    run(client, f"echo 1 > {path}", exit_code=1)
