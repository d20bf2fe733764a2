"""What the link of a board tells others: a file that it writes while it lives."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from ofa_tvm.boards.registry import Board, state_folder
from ofa_tvm.files import write_atomic


class LinkState(BaseModel):
    """A running link.

    Attributes
    ----------
    pid, started
        Its process and when that began, in seconds since the epoch: process ids come back.
    tracker
        ``HOST:PORT`` of the tracker that it leads the board to.
    port
        Of the RPC server, on this host's loopback.
    tracker_port
        On the board's loopback.
    state
        ``up``, or ``reconnecting`` since the connection was cut, with why.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pid: int
    started: float
    tracker: str
    port: int
    tracker_port: int
    state: Literal["up", "reconnecting"]
    reason: str = ""

    def process(self) -> psutil.Process | None:
        """The process, unless it has ended."""
        try:
            process = psutil.Process(self.pid)
            if process.create_time() == self.started and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except psutil.NoSuchProcess:
            pass
        return None


def link_file(name: str, suffix: str) -> Path:
    """A file of a board's link: ``json`` (its state), ``log``, ``lock``."""
    return state_folder() / "links" / f"{name}.{suffix}"


def link_pid_file(board: Board) -> str:
    """On the board: the SSH server's process that serves the link."""
    return str(PurePosixPath(board.folder).parent / "links" / board.name)


def write_link_state(name: str, state: LinkState) -> None:
    """Tell others."""
    write_atomic(link_file(name, "json"), (state.model_dump_json() + "\n").encode())


def read_link_state(name: str) -> LinkState | None:
    """The state of a link that runs; what a killed or older one has left counts for nothing."""
    try:
        state = LinkState.model_validate_json(link_file(name, "json").read_bytes())
    except (OSError, ValidationError):
        return None
    return state if state.process() else None
