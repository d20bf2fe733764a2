"""The RPC server as a unit of the board's systemd: it comes back after a reboot of the board, too."""

from __future__ import annotations

import re
import shlex

from ofa_tvm.boards.command_output import CommandResult
from ofa_tvm.boards.registry import Board, name_on_board
from ofa_tvm.boards.service import LIMIT_S, LOG_LINES, ServiceStatus
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.errors import BoardSetUpError
from ofa_tvm.files import shipped_folder

# A user's own systemd is found through a variable that a login without a terminal may lack.
_FUNCTIONS = """
if [ "$(id -u)" = 0 ]; then
    units=/etc/systemd/system wanted_by=multi-user.target
    systemd() { systemctl "$@"; }
    journal() { journalctl --unit "$@"; }
else
    units=$HOME/.config/systemd/user wanted_by=default.target
    export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
    systemd() { systemctl --user "$@"; }
    # Not `journalctl --user`: a journal that is not kept on the disk has none for single users.
    journal() { journalctl --user-unit "$@"; }
fi
"""
UNIT_FILES = '/etc/systemd/system/ofa_tvm-*.service "$HOME"/.config/systemd/user/ofa_tvm-*.service'
"""All of ours on a board, as its shell finds them."""

_LINGER = "lingering is off"


class SystemdService:
    """A unit of the system if we are root there, else of the user."""

    def __init__(self, connection: SshConnection, board: Board) -> None:
        self._connection, self._board = connection, board
        self._unit = f"ofa_tvm-{name_on_board(board)}.service"

    def start(self, command: list[str]) -> None:
        """Write, enable and (re)start the unit.

        Raises
        ------
        BoardSetUpError
            There is no systemd, or it refuses.
        BoardUnreachableError
            The board does not answer.
        """
        template = (shipped_folder("rpc") / "provisioning" / "ofa_tvm.service").read_text()
        unit = template.replace("@KEY@", self._board.key).replace("@COMMAND@", self.written(command))
        steps = f"""
        command -v systemctl >/dev/null || {{ echo "there is no systemd; leave --systemd out" >&2; exit 1; }}
        set -e
        user=$(id -un)
        if [ "$(id -u)" != 0 ] && [ ! -e "/var/lib/systemd/linger/$user" ]; then
            loginctl enable-linger 2>/dev/null || {{ echo "{_LINGER}"; exit 1; }}
        fi
        mkdir -p "$units"
        printf '%s' {shlex.quote(unit)} | sed "s/@WANTED_BY@/$wanted_by/" >"$units/{self._unit}.new"
        mv "$units/{self._unit}.new" "$units/{self._unit}"
        systemd daemon-reload
        systemd enable -q {self._unit}
        systemd reset-failed {self._unit} 2>/dev/null || true  # also the count of its restarts
        systemd restart {self._unit}
        """
        result = self._run(steps)
        if result.stdout.strip() == _LINGER:
            user = self._board.user
            raise BoardSetUpError(
                f"{self._board.name} ends its services when {user} logs out; allow them to stay: on the board type"
                f" sudo loginctl enable-linger {user}, then start it again"
            )
        if result.code != 0:
            raise BoardSetUpError(f"systemd of {self._board.name} did not start the RPC server: {result.reason}")

    def stop(self) -> None:
        """Stop the unit and remove it; there may be none.

        Raises
        ------
        BoardUnreachableError
            The board does not answer.
        """
        self._run(
            f"""
            [ -e "$units/{self._unit}" ] || exit 0
            systemd disable -q --now {self._unit}
            rm -f "$units/{self._unit}"
            systemd daemon-reload
            """
        )

    def status(self) -> ServiceStatus:
        """What systemd and its journal say.

        Raises
        ------
        BoardUnreachableError
            The board does not answer.
        """
        steps = f"""
        if systemd is-active -q {self._unit} || systemd show -p SubState {self._unit} | grep -q =auto-restart; then
            echo yes
        else
            echo no
        fi
        sed -n 's/^ExecStart=//p' "$units/{self._unit}" 2>/dev/null | grep . || echo
        systemd show -p NRestarts {self._unit} 2>/dev/null | sed -n 's/^NRestarts=//p' | grep . || echo 0
        journal {self._unit} -q -n {LOG_LINES} -o cat 2>/dev/null
        """
        lines = self._run(steps).stdout.splitlines()
        if len(lines) < 3:
            return ServiceStatus(running=False)
        failures = int(lines[2]) if lines[2].isdigit() else 0
        return ServiceStatus(running=lines[0] == "yes", command=lines[1], log=tuple(lines[3:]), failures=failures)

    def written(self, command: list[str]) -> str:
        """A command as `status` gives it: as systemd's ExecStart= reads it."""
        return " ".join(_unit_word(word) for word in command)

    def _run(self, steps: str) -> CommandResult:
        return self._connection.run(f"{_FUNCTIONS}\n{steps}", LIMIT_S)


def _unit_word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w./:=+-]+", escaped) else f'"{escaped}"'
