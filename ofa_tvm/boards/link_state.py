"""What the link of a board tells others: a file that it writes while it lives."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from ofa_tvm.boards.registry import Board, name_on_board
from ofa_tvm.files import write_atomic
from ofa_tvm.homes import state_folder
from ofa_tvm.locks import try_lock


class LinkState(BaseModel):
    """A link that runs, or the last that is known of one that gave up.

    Attributes
    ----------
    pid
        Its process.
    tracker
        ``HOST:PORT`` of the tracker that it leads the board to.
    port
        Of the RPC server, on this host's loopback.
    tracker_port
        On the board's loopback.
    state
        ``up``, ``reconnecting`` since the connection was cut, or ``ended``: trying on would be of no use.
    reason
        Why it is not up.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pid: int
    tracker: str
    port: int
    tracker_port: int
    state: Literal["up", "reconnecting", "ended"]
    reason: str = ""


def link_file(name: str, suffix: str) -> Path:
    """A file of a board's link: ``json`` (its state), ``log``, ``lock``."""
    return state_folder() / "links" / f"{name}.{suffix}"


def link_pid_file(board: Board) -> str:
    """On the board: the SSH server's process that serves the link."""
    return str(PurePosixPath(board.folder).parent / "links" / name_on_board(board))


def write_link_state(name: str, state: LinkState) -> None:
    """Tell others."""
    write_atomic(link_file(name, "json"), (state.model_dump_json() + "\n").encode())


def read_link_state(name: str) -> LinkState | None:
    """The state of a link that runs or gave up; what a killed or older one has left counts for nothing."""
    try:
        state = LinkState.model_validate_json(link_file(name, "json").read_bytes())
    except (OSError, ValidationError):
        return None
    process = link_process(name)
    if process is None:
        return state if state.state == "ended" else None
    return state if process.pid == state.pid else None


def link_process(name: str) -> psutil.Process | None:
    """The process that has the link's lock, in which it writes its id: the lock ends with it, however that ends."""
    try:
        with link_file(name, "lock").open("r+") as lock:
            pid = "" if try_lock(lock.fileno()) else lock.read()
        return psutil.Process(int(pid)) if pid else None
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None


def forget_link(name: str) -> None:
    """Remove the files of a link that is gone."""
    for suffix in ("json", "log", "log.1", "lock"):
        link_file(name, suffix).unlink(missing_ok=True)
