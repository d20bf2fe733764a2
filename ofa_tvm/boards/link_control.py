"""Starting, stopping and looking at the link of a board; `ofa_tvm.boards.link` is the link itself."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import psutil

from ofa_tvm import errors
from ofa_tvm.boards.link_state import LinkState, link_file, link_process, read_link_state
from ofa_tvm.boards.registry import Board
from ofa_tvm.errors import BoardUnreachableError, DeviceError
from ofa_tvm.files import output_errors, shipped_folder
from ofa_tvm.measurement.tracker import TrackerAddress

READY_LIMIT_S = 60.0
STOP_LIMIT_S = 5.0
_tethered: list[subprocess.Popen[bytes]] = []
"""Our own children, to be known until we end."""


def link_status(board: Board) -> LinkState | None:
    """The board's link, if one runs."""
    state = read_link_state(board.name)
    return state if state and state.state != "ended" else None


def start_link(board: Board, tracker: TrackerAddress, *, tethered: bool = False) -> int:
    """Start the board's link; it is up when this returns. One that leads to another tracker or port is replaced.

    Parameters
    ----------
    tethered
        The link ends with the thread that calls this, even if that is killed.

    Returns
    -------
    tracker_port
        The port on the board's loopback that leads to the tracker.

    Raises
    ------
    HostKeyError, BoardUnreachableError, DeviceError
        It does not come up.
    """
    if (running := link_status(board)) and (running.tracker, running.port) == (str(tracker), board.port):
        return running.tracker_port
    stop_link(board)
    log = link_file(board.name, "log")
    with output_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            return _await_answer(board, _spawn(board, tracker, tethered, stream.fileno()))


def stop_link(board: Board) -> bool:
    """End the board's link; it is gone when this returns. False if there was none."""
    process = link_process(board.name)
    if process is not None:
        end_process(process)
    link_file(board.name, "json").unlink(missing_ok=True)
    return process is not None


def end_process(process: psutil.Process) -> None:
    """Ask it to end, then make it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
        if not _ends(process):
            process.kill()
            _ends(process)


def _ends(process: psutil.Process) -> bool:
    """Whether it ends in time; a process whose parent has not yet taken note has ended, too."""
    deadline = time.monotonic() + STOP_LIMIT_S
    with contextlib.suppress(psutil.NoSuchProcess):
        while not _has_ended(process):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    return True


def _has_ended(process: psutil.Process) -> bool:
    """The last of its threads closes what it had open, such as its port."""
    if not process.is_running():
        return True
    return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1


def _spawn(board: Board, tracker: TrackerAddress, tethered: bool, log: int) -> int:
    """Start the link's process; the descriptor where it says who it is, and then that it is up."""
    ready_read, ready_write = os.pipe()
    tether = [sys.executable, "-ES", str(shipped_folder("rpc") / "tethered.py"), str(os.getpid())] if tethered else []
    mode = "tethered" if tethered else "detached"
    arguments = [board.name, tracker.host, str(tracker.port), str(ready_write), mode]
    try:
        process = subprocess.Popen(
            [*tether, sys.executable, "-m", "ofa_tvm.boards.link", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[ready_write],
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
    except BaseException:
        os.close(ready_read)
        raise
    finally:
        os.close(ready_write)
    if tethered:
        _tethered.append(process)
    else:
        process.wait(READY_LIMIT_S)  # it ends as soon as it has forked the link
    return ready_read


def _await_answer(board: Board, ready: int) -> int:
    text, deadline = b"", time.monotonic() + READY_LIMIT_S
    try:
        while select.select([ready], [], [], max(0.0, deadline - time.monotonic()))[0]:
            block = os.read(ready, 4096)
            if not block:
                break
            text += block
    finally:
        os.close(ready)
        pid, _, answer = text.decode().partition("\n")
        if pid and "tracker_port" not in answer:  # it must not come up when nobody waits for it any more
            with contextlib.suppress(psutil.NoSuchProcess):
                end_process(psutil.Process(int(pid)))
    if not answer:
        raise BoardUnreachableError(f"the link to {board.name} did not come up; see {link_file(board.name, 'log')}")
    content = json.loads(answer)
    if "error" in content:
        raise getattr(errors, content["error"], DeviceError)(content["message"])
    return int(content["tracker_port"])
