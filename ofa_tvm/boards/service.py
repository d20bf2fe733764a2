"""The RPC server on a board: started so that it outlives the connection, kept running, stopped without a trace."""

from __future__ import annotations

import posixpath
import re
import shlex
from dataclasses import dataclass
from typing import Protocol

from ofa_tvm.boards.command_output import CommandResult
from ofa_tvm.boards.payload import NATIVE_SERVER
from ofa_tvm.boards.registry import Board, name_on_board
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.errors import BoardSetUpError

LIMIT_S = 60.0
LOG_LINES = 20

_ENDED = re.compile(r"rpc server ended with code \d+; starting it again in (\d+) s")
"""What supervise.sh writes; its pause doubles from one second on, unless the server has run for a while."""
_SUPERVISORS = re.compile(rf"{_ENDED.pattern}|ofa_tvm-\S+\.service: |(Started|Stopped|Starting|Stopping) \S+")

# Process ids come back: one is ours only if it still has the start time it had.
_FUNCTIONS = """
same() {
    [ -r "$1" ] && read -r pid started <"$1" &&
        [ "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d ' ' -f 20)" = "$started" ]
}
end() {
    same "$1" && kill "-$2" "$pid" 2>/dev/null
    tries=0
    while same "$1" && [ "$tries" -lt "$3" ]; do
        sleep 0.1 2>/dev/null || sleep 1
        tries=$((tries + 1))
    done
}
end_all() {
    end supervisor TERM 50
    end supervisor KILL 20
    end server TERM 20
    end server KILL 20
    rm -f supervisor server output command
}
"""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What the board says of the server.

    Attributes
    ----------
    command
        How it was started; empty if it was not.
    log
        The last lines it wrote.
    failures
        How often in a row it ended soon after its start.
    """

    running: bool
    command: str = ""
    log: tuple[str, ...] = ()
    failures: int = 0

    @property
    def last_words(self) -> str:
        """The newest line of its log that is the server's own."""
        own = [line for line in self.log if line.strip() and not _SUPERVISORS.match(line)]
        return (own or list(self.log) or ["its log is empty"])[-1]


class Service(Protocol):
    """A way to keep the server running on a board."""

    def start(self, command: list[str]) -> None:
        """Start it, in place of one that runs."""

    def stop(self) -> None:
        """Stop it; there may be none."""

    def status(self) -> ServiceStatus:
        """Whether it runs."""

    def written(self, command: list[str]) -> str:
        """A command as `status` gives it."""


def server_command(board: Board, tracker: str) -> list[str]:
    """The server's program and options; `tracker` as the board sees it."""
    python = [f"{board.folder}/venv/bin/python", f"{board.folder}/rpc/server.py"]
    program = python if board.runtime == "python" else [f"{board.folder}/{NATIVE_SERVER}"]
    listening = ["--host", "0.0.0.0"] if board.lan else []
    options = ["--key", board.key, "--port", str(board.port), "--threads", str(board.threads)]
    return [*program, "--tracker", tracker, *options, *listening]


class ShellService:
    """The server below a supervising shell, for any board."""

    def __init__(self, connection: SshConnection, board: Board) -> None:
        self._connection, self._board = connection, board
        self._folder = posixpath.join(posixpath.dirname(board.folder), "run", name_on_board(board))

    def start(self, command: list[str]) -> None:
        """Start it detached, in place of one that runs.

        Raises
        ------
        BoardSetUpError
            The supervising shell did not come up.
        BoardUnreachableError
            The board does not answer.
        """
        supervisor = posixpath.join(self._board.folder, "supervise.sh")
        # Not `cd … && … &`: the shell that waits for such a list would keep the connection's channel open.
        steps = f"""
        for program in setsid mkfifo; do
            command -v "$program" >/dev/null && continue
            echo "there is no program $program; util-linux, coreutils and busybox have them" >&2
            exit 1
        done
        end_all
        printf '%s\\n' {shlex.quote(self.written(command))} >command
        rm -f log log.old
        setsid sh {shlex.quote(supervisor)} . {shlex.join(command)} </dev/null >/dev/null 2>&1 &
        tries=0
        until same supervisor || [ "$tries" -ge 100 ]; do
            sleep 0.1 2>/dev/null || sleep 1
            tries=$((tries + 1))
        done
        same supervisor
        """
        result = self._run(steps, make=True)
        if result.code != 0:
            raise BoardSetUpError(f"the RPC server of {self._board.name} could not be started: {result.reason}")

    def stop(self) -> None:
        """Stop it and remove what it wrote; there may be none.

        Raises
        ------
        BoardUnreachableError
            The board does not answer.
        """
        self._run(f'end_all\ncd "$HOME" && rm -rf {shlex.quote(self._folder)}')

    def status(self) -> ServiceStatus:
        """Whether it runs, as the board says.

        Raises
        ------
        BoardUnreachableError
            The board does not answer.
        """
        steps = f"""
        same supervisor && echo yes || echo no
        cat command 2>/dev/null || echo
        cat log.old log 2>/dev/null | tail -n {LOG_LINES}
        """
        lines = self._run(steps).stdout.splitlines()
        if len(lines) < 2:
            return ServiceStatus(running=False)
        pauses = [int(found[1]) for line in lines[2:] if (found := _ENDED.match(line))]
        failures = pauses[-1].bit_length() if pauses else 0
        return ServiceStatus(running=lines[0] == "yes", command=lines[1], log=tuple(lines[2:]), failures=failures)

    def written(self, command: list[str]) -> str:
        """A command as `status` gives it."""
        return shlex.join(command)

    def _run(self, steps: str, make: bool = False) -> CommandResult:
        folder = shlex.quote(self._folder)
        enter = f"mkdir -p {folder} && cd {folder} || exit 1" if make else f"cd {folder} 2>/dev/null || exit 0"
        return self._connection.run(f"{_FUNCTIONS}\n{enter}\n{steps}", LIMIT_S)
