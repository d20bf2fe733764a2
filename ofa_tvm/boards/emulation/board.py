"""Start, find and stop emulated boards."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil

from ofa_tvm.boards.emulation.host import Say, enable_arm64, require_host
from ofa_tvm.boards.emulation.keys import generate_key
from ofa_tvm.boards.emulation.lock import locked
from ofa_tvm.boards.emulation.network import PREFIX, plug_in, unplug
from ofa_tvm.boards.emulation.processor import Processor, processor_of
from ofa_tvm.boards.emulation.rootfs import base_root
from ofa_tvm.boards.emulation.state import (
    SSH_PORT,
    USER,
    EmulatedBoard,
    identity_file,
    init_script,
    processes_of,
)
from ofa_tvm.errors import EmulationError
from ofa_tvm.targets import Target

BANNER = b"SSH-2.0-"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
LOCK_LIMIT_S = 60.0
NAMESPACES_LIMIT_S = 10.0
SSHD_LIMIT_S = 60.0
CONNECT_LIMIT_S = 2.0
STOP_LIMIT_S = 10.0
POLL_PERIOD_S = 0.02


def start_board(target: Target, name: str, folder: Path, say: Say, *, tethered: bool) -> EmulatedBoard:
    """Start a board with the target's core; it lets in who has its key when this returns.

    Parameters
    ----------
    name
        Its host name, and that of its folder below `folder`.
    folder
        Where boards keep their state and what they write.
    say
        Told what takes long, and what is otherwise than asked.
    tethered
        The kernel kills the board when the thread that calls this ends, however that happens.

    Raises
    ------
    EmulationError
        It can't be started: something is missing here, a board of this name runs, or sshd did not answer.
    """
    if not NAME.fullmatch(name):
        raise EmulationError(f"{name!r} is no name for a board; use letters, digits, '-', '_' and '.'")
    require_host()
    processor = processor_of(target, say)
    enable_arm64(say)
    base = base_root(say)
    folder = folder.resolve()
    with locked(folder, LOCK_LIMIT_S):
        _remove_stale(folder)
        board = _launch(base, processor, name, folder / name, tethered=tethered)
    try:
        _await_sshd(board)
    except BaseException:
        stop_board(board)
        raise
    return board


def find_boards(folder: Path) -> list[EmulatedBoard]:
    """The running boards whose state is below `folder`, by name."""
    boards = []
    for path in _board_folders(folder.resolve()):
        with contextlib.suppress(EmulationError):  # damaged or gone: `clean_stale` removes it
            if processes_of(path):
                boards.append(EmulatedBoard.load(path))
    return boards


def stop_board(board: EmulatedBoard) -> None:
    """Kill a board and remove everything of it; nothing happens if it is gone already.

    Raises
    ------
    EmulationError
        Something of it resists.
    """
    _end(board.folder, board.address)


def clean_stale(folder: Path) -> None:
    """Remove what boards below `folder` left that did not stop by themselves or whose state can't be read."""
    if folder.is_dir():
        with locked(folder.resolve(), LOCK_LIMIT_S):
            _remove_stale(folder.resolve())


def _launch(base: Path, processor: Processor, name: str, folder: Path, *, tethered: bool) -> EmulatedBoard:
    """The board's processes and its cable; sshd starts meanwhile."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as error:
        raise EmulationError(f"a board {name} runs already (its state: {folder}); stop it, or take another name") from error
    process, address = None, None
    try:
        host_key = generate_key(folder / "host_key")
        generate_key(identity_file(folder))
        process = _start_process(base, processor, name, folder, tethered=tethered)
        _await_namespaces(process, folder)
        address = plug_in(process.pid)
        board = EmulatedBoard(name, process.pid, address, USER, SSH_PORT, identity_file(folder), host_key, folder)
        board.save()
        _write_line(process, f"{address}/{PREFIX}", folder)
    except BaseException:
        _end(folder, address)
        raise
    return board


def _start_process(
    base: Path, processor: Processor, name: str, folder: Path, *, tethered: bool
) -> subprocess.Popen[bytes]:
    tether = ["setpriv", "--pdeathsig", "KILL"] if tethered else []
    namespaces = ["unshare", "--mount", "--pid", "--uts", "--net", "--fork", "--kill-child=KILL"]
    arguments = [name, base, processor.qemu_model, processor.cpuinfo, folder]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [*tether, *namespaces, str(init_script()), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,  # Ctrl-C at the terminal is for the command alone
        )


def _await_namespaces(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until the process has left the host's network."""
    ours = Path("/proc/self/ns/net").readlink()
    deadline = time.monotonic() + NAMESPACES_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process.pid}/ns/net").readlink() != ours:
                return
        time.sleep(POLL_PERIOD_S)
    raise EmulationError(f"the board's namespaces can't be made: {_last_log_line(folder)}")


def _write_line(process: subprocess.Popen[bytes], line: str, folder: Path) -> None:
    assert process.stdin is not None
    try:
        with process.stdin as stream:
            stream.write(f"{line}\n".encode())
    except BrokenPipeError as error:
        raise EmulationError(f"the board ended at its start: {_last_log_line(folder)}") from error


def _await_sshd(board: EmulatedBoard) -> None:
    deadline = time.monotonic() + SSHD_LIMIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            with socket.create_connection((board.address, board.ssh_port), CONNECT_LIMIT_S) as connection:
                if connection.recv(len(BANNER)) == BANNER:
                    return
        if not _is_running(board.pid):
            raise EmulationError(f"the board {board.name} ended at its start: {_last_log_line(board.folder)}")
        time.sleep(POLL_PERIOD_S)
    raise EmulationError(
        f"no answer from sshd of board {board.name} at {board.address} within {SSHD_LIMIT_S:.0f} s: "
        f"{_last_log_line(board.folder)}"
    )


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _last_log_line(folder: Path) -> str:
    lines = (folder / "log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"


def _remove_stale(folder: Path) -> None:
    for path in _board_folders(folder):
        try:
            board = EmulatedBoard.load(path)
            if processes_of(path):
                continue
            _end(path, board.address)
        except EmulationError:
            _end(path, None)


def _board_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if (path / "host_key").exists())


def _end(folder: Path, address: str | None) -> None:
    processes = processes_of(folder)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(processes, STOP_LIMIT_S)
    if alive:
        raise EmulationError(f"process {alive[0].pid} of the board in {folder} does not end; kill it as root")
    if address is not None:
        unplug(address, STOP_LIMIT_S)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise EmulationError(f"cannot remove all of {folder}; remove it as root")
