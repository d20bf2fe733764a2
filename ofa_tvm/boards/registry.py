"""What this host knows of the boards that were set up: one JSON file each, in the state folder."""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ofa_tvm.boards.address import SSH_PORT, SshAddress
from ofa_tvm.errors import UsageError
from ofa_tvm.files import output_errors, write_atomic
from ofa_tvm.homes import state_folder
from ofa_tvm.locks import file_locked, folder_locked, try_lock
from ofa_tvm.reporting import Say
from ofa_tvm.schema_errors import first_fault
from ofa_tvm.targets import EMULATED_SUFFIX

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}"
COMMAND = "python -m ofa_tvm.devices"


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

    name: str = Field(pattern=f"^{NAME}$")
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


def known_hosts_file() -> Path:
    """The host keys that were accepted."""
    return state_folder() / "known_hosts"


def emulated_folder() -> Path:
    """Where emulated boards keep what they write."""
    return state_folder() / "emulated"


def check_name(text: str) -> None:
    """Refuse a name of a board that would be none for its files, here or there.

    Raises
    ------
    UsageError
        It is none.
    """
    if not re.fullmatch(NAME, text):
        raise UsageError(
            f"{text!r} is no name for a board; give it one with --name: at most 63 letters, digits, '_', '-' and '.',"
            " not '-' or '.' first"
        )


def name_on_board(board: Board) -> str:
    """What a board calls that which runs there for this host: other hosts may use it under the same name.

    The host's part is chosen once and kept for as long as it knows a board.
    """
    path = _host_file()
    with folder_locked(state_folder(), "changes the list of boards"):
        if not path.exists():
            write_atomic(path, f"{secrets.token_hex(4)}\n".encode())
        return f"{board.name}-{path.read_text().strip()}"


def setup_command(board: Board) -> str:
    """What to type to set the board up again as it is."""
    if is_emulated_here(board):
        return f"{COMMAND} stop {board.name} && {COMMAND} emulate {board.target.removesuffix(EMULATED_SUFFIX)}"
    name = [] if board.name == board.target else ["--name", board.name]
    identity = ["--identity", str(board.identity)] if board.identity else []
    switches = ["--systemd"] * board.systemd + ["--lan"] * board.lan
    return f"{COMMAND} {shlex.join(['setup', board.target, '--ssh', str(board.address), *name, *identity, *switches])}"


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
            f"no board {name!r} was set up from here (set up: {known}); set it up:"
            f" {COMMAND} setup TARGET --ssh USER@HOST --name {name}"
        ) from None
    except ValidationError as error:
        raise UsageError(f"{path} is damaged ({first_fault(error)}); remove it and set {name} up again") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def registered_boards(say: Say = lambda _: None) -> list[Board]:
    """All boards that were set up from here, by name; what is damaged is said and left out."""
    boards = []
    for name in board_names():
        try:
            boards.append(load_board(name))
        except UsageError as error:
            say(str(error))
    return boards


def is_emulated_here(board: Board) -> bool:
    """Whether this host started it as an emulated board."""
    return board.identity is not None and emulated_folder() in board.identity.parents


def board_names() -> list[str]:
    """Names of the boards that are known, sorted."""
    return sorted(path.stem for path in (state_folder() / "boards").glob("*.json") if not path.name.startswith("."))


def remove_board(name: str) -> None:
    """Forget a board; it may be forgotten already."""
    with folder_locked(state_folder(), "changes the list of boards"), output_errors(_file(name)):
        _file(name).unlink(missing_ok=True)
        if not board_names():
            _host_file().unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError), _lock_file(name).open("r+") as lock:
            if try_lock(lock.fileno()):  # else its holder removes it
                _lock_file(name).unlink()


@contextlib.contextmanager
def board_lock(name: str, say: Say = lambda _: None) -> Iterator[None]:
    """Let one command at a time change what runs for a board; of one that isn't known then, no lock is left.

    Raises
    ------
    DeviceError
        Another one has been at it for too long.
    """
    path = _lock_file(name)
    with file_locked(path, f"changes what runs for {name}", say):
        try:
            yield
        finally:
            if not _file(name).exists():
                path.unlink(missing_ok=True)


def _file(name: str) -> Path:
    check_name(name)  # typed by the user, it could be a path
    return state_folder() / "boards" / f"{name}.json"


def _lock_file(name: str) -> Path:
    return state_folder() / "boards" / f".{name}.lock"


def _host_file() -> Path:
    return state_folder() / "host"
