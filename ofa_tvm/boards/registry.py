"""What this host knows of the boards that were set up: one JSON file each, in the state folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ofa_tvm.boards.address import SSH_PORT, SshAddress
from ofa_tvm.errors import DeviceError, UsageError
from ofa_tvm.files import output_errors, write_atomic

NAME = r"^\w[\w.-]*$"
LOCK_LIMIT_S = 300.0
LOCK_POLL_S = 0.1


class Board(BaseModel):
    """A board that was set up, or is about to be.

    Attributes
    ----------
    name
        What the user calls it; also names its files here and on the board.
    key
        The device key it registers under at a tracker.
    folder
        Where the runtime lies on the board, absolute; empty before it was set up.
    port
        Of the RPC server, the same on the board's loopback and on this host's; 0 before the first start.
    tracker_port
        On the board's loopback, leads to the tracker; 0 before the first start.
    lan
        The server listens on the network and needs no link.
    systemd
        The board's systemd keeps the server running.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME)
    target: str = Field(min_length=1)
    key: str = Field(pattern=r"^[\w.-]+$")
    user: str = Field(min_length=1)
    host: str = Field(min_length=1)
    ssh_port: int = Field(default=SSH_PORT, ge=1, le=65535)
    identity: Path | None = None
    runtime: Literal["python", "native"] = "python"
    folder: str = ""
    port: int = Field(default=0, ge=0, le=65535)
    tracker_port: int = Field(default=0, ge=0, le=65535)
    lan: bool = False
    systemd: bool = False
    threads: int = Field(default=1, ge=1)
    emulated: bool = False

    @field_validator("identity")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        """Links run elsewhere."""
        return path.expanduser().absolute() if path else None

    @property
    def address(self) -> SshAddress:
        """Where it is reached."""
        return SshAddress(self.user, self.host, self.ssh_port)


def state_folder() -> Path:
    """Where this host keeps what must outlive a command: boards, their links, their host keys."""
    if own := os.environ.get("OFA_TVM_STATE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "ofa_tvm"


def known_hosts_file() -> Path:
    """The host keys that were accepted."""
    return state_folder() / "known_hosts"


def emulated_folder() -> Path:
    """Where emulated boards keep what they write."""
    return state_folder() / "emulated"


def check_name(name: str) -> None:
    """Refuse what can't name a board's files.

    Raises
    ------
    UsageError
        It is no name.
    """
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{name!r} is no name for a board; give it one of letters, digits, '_', '-' and '.': --name")


def save_board(board: Board) -> None:
    """Remember a board, in place of what was known under its name."""
    write_atomic(_file(board.name), (board.model_dump_json(indent=2) + "\n").encode())


def load_board(name: str) -> Board:
    """What is known of a board.

    Raises
    ------
    UsageError
        No board of this name was set up here, or its file is damaged.
    """
    path = _file(name)
    try:
        return Board.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        known = ", ".join(board_names()) or "none"
        raise UsageError(
            f"no board {name!r} was set up from here (set up: {known}); set it up with:"
            f" python -m ofa_tvm.devices setup {name} --ssh USER@HOST"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{path} is damaged ({where or 'JSON'}: {first['msg']}); remove it and set {name} up again"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def board_names() -> list[str]:
    """Names of the boards that are known, sorted."""
    return sorted(path.stem for path in (state_folder() / "boards").glob("*.json") if not path.name.startswith("."))


def remove_board(name: str) -> None:
    """Forget a board; it may be forgotten already."""
    with output_errors(_file(name)):
        _file(name).unlink(missing_ok=True)


@contextlib.contextmanager
def board_lock(name: str) -> Iterator[None]:
    """Let one command at a time change what runs for a board.

    Raises
    ------
    DeviceError
        Another one has been at it for five minutes.
    """
    with locked(state_folder() / "boards" / f".{name}.lock", name):
        yield


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock that also ends with the process, waiting for it for a limited time.

    Raises
    ------
    DeviceError
        It could not be had.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a")
    with stream:
        deadline = time.monotonic() + LOCK_LIMIT_S
        while not try_lock(stream.fileno()):
            if time.monotonic() > deadline:
                raise DeviceError(f"another command is still busy with {what}; wait for it, or end it")
            time.sleep(LOCK_POLL_S)
        yield


def try_lock(descriptor: int) -> bool:
    """Lock an open file for as long as it stays open; False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _file(name: str) -> Path:
    return state_folder() / "boards" / f"{name}.json"
