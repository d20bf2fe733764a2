"""What is kept of a running board in its folder, so that other commands find it and nothing else is taken for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from ofa_tvm.errors import EmulationError
from ofa_tvm.files import shipped_folder, write_json
from ofa_tvm.schema_errors import first_fault

USER = "root"
SSH_PORT = 22
INIT = "emulated/init.sh"


@dataclass(frozen=True, slots=True)
class EmulatedBoard:
    """A board that was started.

    Attributes
    ----------
    target, key
        The name and device key of the target that it was started for.
    pid
        Of the process all others of the board die with.
    address
        Reached from this host alone.
    identity
        The private key that the board lets in.
    host_key
        The board's own public key, as a line ``ssh-ed25519 AAAA...``.
    folder
        Everything that the board has written; removed by stopping it.
    """

    name: str
    target: str
    key: str
    pid: int
    address: str
    user: str
    ssh_port: int
    identity: Path
    host_key: str
    folder: Path

    @classmethod
    def load(cls, folder: Path) -> EmulatedBoard:
        """The board whose state is in `folder`.

        Raises
        ------
        EmulationError
            There is none, or the file is damaged.
        """
        path = _state_file(folder)
        try:
            state = _State.model_validate_json(path.read_bytes())
        except OSError as error:
            raise EmulationError(f"no emulated board in {folder}: {error.strerror}") from error
        except ValidationError as error:
            raise EmulationError(f"{path} is damaged: {first_fault(error)}; stop the board") from error
        own = (state.address, USER, SSH_PORT, identity_file(folder), state.host_key, folder)
        return cls(state.name, state.target, state.key, state.pid, *own)

    def save(self) -> None:
        """Write it for `load`."""
        state = _State(
            name=self.name,
            target=self.target,
            key=self.key,
            pid=self.pid,
            address=self.address,
            host_key=self.host_key,
        )
        write_json(_state_file(self.folder), state.model_dump())


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    target: str
    key: str
    pid: int
    address: str
    host_key: str


def init_script() -> Path:
    """The script that a board's first process runs."""
    return shipped_folder("rpc") / INIT


def board_folders(folder: Path) -> list[Path]:
    """Folders below `folder` that belong to boards, running or not.

    Raises
    ------
    EmulationError
        They are another user's.
    """
    try:
        return sorted(path for path in folder.glob("*") if host_key_file(path).exists())
    except PermissionError as error:
        raise EmulationError(f"cannot look into {error.filename}; run the command again as root (sudo)") from error


def host_key_file(folder: Path) -> Path:
    """Where a board's folder has its own private key; the first file that is written there."""
    return folder / "host_key"


def log_file(folder: Path) -> Path:
    """Where a board's folder has what its first processes say."""
    return folder / "log"


def identity_file(folder: Path) -> Path:
    """Where a board's folder has the client's private key."""
    return folder / "id_ed25519"


def processes_of(folder: Path) -> list[psutil.Process]:
    """The process all others of a board die with, and those below it; none if the board is gone.

    It is known by its command line, so that no process that got the same number later is taken for it.
    """
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if command[:1] in (["unshare"], ["setpriv"]) and str(folder) in command and _has_init(command):
                return [process, *process.children(recursive=True)]
        except psutil.Error:  # ended meanwhile
            continue
    return []


def _state_file(folder: Path) -> Path:
    return folder / "board.json"


def _has_init(command: list[str]) -> bool:
    """Also if the board was started from another copy of this package."""
    return any(argument.endswith(f"/{INIT}") for argument in command)
