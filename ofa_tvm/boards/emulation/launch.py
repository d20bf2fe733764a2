"""The life of one board: its processes and its cable, from the first to the last."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import psutil

from ofa_tvm.boards.emulation.folders import remove_tree
from ofa_tvm.boards.emulation.host import environment
from ofa_tvm.boards.emulation.keys import generate_key
from ofa_tvm.boards.emulation.network import PREFIX, Cable, plug_in
from ofa_tvm.boards.emulation.processor import Processor
from ofa_tvm.boards.emulation.state import (
    SSH_PORT,
    USER,
    EmulatedBoard,
    host_key_file,
    identity_file,
    init_script,
    log_file,
    processes_of,
)
from ofa_tvm.errors import EmulationError, OutputError
from ofa_tvm.targets import Target

BANNER = b"SSH-2.0-"
NAMESPACES_LIMIT_S = 10.0
SSHD_LIMIT_S = 60.0
CONNECT_LIMIT_S = 2.0
STOP_LIMIT_S = 10.0
POLL_PERIOD_S = 0.02


def launch(
    base: Path, processor: Processor, target: Target, name: str, folder: Path, *, tethered: bool
) -> EmulatedBoard:
    """The board's processes and its cable, with its state in `folder`, which is made; sshd starts meanwhile."""
    board = None
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        host_key = generate_key(host_key_file(folder))
        generate_key(identity_file(folder))
        options = [name, base, processor.qemu_model, processor.cpuinfo, folder]
        pid, control = _spawn(["sh", str(init_script()), *map(str, options)], log_file(folder), tethered=tethered)
        with os.fdopen(control, "wb", buffering=0) as stream:
            _await_namespaces(pid, folder)
            address = plug_in(pid)
            own = (address, USER, SSH_PORT, identity_file(folder), host_key, folder)
            board = EmulatedBoard(name, target.name, target.device.key, pid, *own)
            board.save()
            with contextlib.suppress(BrokenPipeError):  # `await_sshd` says why it ended
                stream.write(f"{address}/{PREFIX}\n".encode())
    except (OSError, OutputError) as error:
        end(folder, board)
        raise EmulationError(f"cannot start board {name} in {folder}: {error.__cause__ or error}") from error
    except BaseException:
        end(folder, board)
        raise
    return board


def await_sshd(board: EmulatedBoard) -> None:
    """Until sshd on the board greets.

    Raises
    ------
    EmulationError
        The board ended instead, or the limit is over.
    """
    deadline = time.monotonic() + SSHD_LIMIT_S
    while not _greets(board):
        if not _is_running(board.pid):
            raise EmulationError(f"board {board.name} ended at its start: {_last_log_line(board.folder)}")
        if time.monotonic() > deadline:
            waited = f"within {SSHD_LIMIT_S:.0f} s: {_last_log_line(board.folder)}"
            raise EmulationError(f"sshd of board {board.name} did not answer at {board.address} {waited}")
        time.sleep(POLL_PERIOD_S)


def end(folder: Path, board: EmulatedBoard | None) -> None:
    """Kill the board of `folder`, as far as it runs, and remove its files; its cable goes with it.

    Raises
    ------
    EmulationError
        Something of it resists.
    """
    processes = processes_of(folder)
    cable = Cable.of(board.address) if board is not None and processes else None
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + STOP_LIMIT_S
    while left := [process.pid for process in processes if _is_running(process.pid)]:
        if time.monotonic() > deadline:
            raise EmulationError(f"process {left[0]} of the board in {folder} does not end; kill it as root")
        time.sleep(POLL_PERIOD_S)
    if cable is not None:
        cable.await_end(STOP_LIMIT_S)
    for pid in [process.pid for process in processes] or ([] if board is None else [board.pid]):
        _reap(pid)
    remove_tree(folder, STOP_LIMIT_S)  # in which the board's last processes may be writing their last


def _spawn(program: list[str], log: Path, *, tethered: bool) -> tuple[int, int]:
    """The process that all others of the board die with, and the writing end of the board's standard input."""
    tether = ["setpriv", "--pdeathsig", "KILL"] if tethered else []
    namespaces = ["unshare", "--mount", "--pid", "--uts", "--net", "--fork", "--kill-child=KILL"]
    command = [*tether, *namespaces, *program]
    reading, control = os.pipe()
    try:
        pid = os.posix_spawnp(
            command[0],
            command,
            environment(),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reading, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,  # Ctrl-C at the terminal is for the command alone
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGHUP],  # Python ignores the first, nohup others
        )
    except BaseException:
        os.close(control)
        raise
    finally:
        os.close(reading)
    return pid, control


def _await_namespaces(pid: int, folder: Path) -> None:
    """Until the process has left the host's network."""
    ours = Path("/proc/self/ns/net").readlink()
    deadline = time.monotonic() + NAMESPACES_LIMIT_S
    while _is_running(pid) and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/ns/net").readlink() != ours:
                return
        time.sleep(POLL_PERIOD_S)
    raise EmulationError(f"the board's namespaces can't be made: {_last_log_line(folder)}")


def _greets(board: EmulatedBoard) -> bool:
    try:
        with socket.create_connection((board.address, board.ssh_port), CONNECT_LIMIT_S) as connection:
            return connection.recv(len(BANNER)) == BANNER
    except OSError:
        return False


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _reap(pid: int) -> None:
    """Take note of the end of a board's process, if this one started it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.ppid() == os.getpid() and process.status() == psutil.STATUS_ZOMBIE:
            process.wait(0)


def _last_log_line(folder: Path) -> str:
    log = log_file(folder)
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it was silent"
