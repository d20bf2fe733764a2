"""Setting a board up: find out what it is, bring the runtime that fits it, install it there."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from typing import Literal

from ofa_tvm.boards.payload import NATIVE_SERVER, Upload, native_payload, payload_name, python_payload
from ofa_tvm.boards.probe import Probe, Runtime, choose_runtime, probe, require_space
from ofa_tvm.boards.registry import Board
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.errors import BoardSetUpError, BoardUnreachableError, OfaTvmError
from ofa_tvm.targets import EMULATED_SUFFIX

INSTALL_LIMIT_S = 900.0
SHORT_LIMIT_S = 60.0
CLEAN_UP_LIMIT_S = 20.0

_INSTALL = {
    # pip runs out of its own wheel: Debian's python3 makes virtual environments with pip only with python3-venv.
    # Compiling every module at once would take minutes on a small board; what is used is compiled when it is.
    "python": """
mkdir tmp && export TMPDIR="$PWD/tmp" TVM_USE_RUNTIME_LIB=1
python3 -m venv --without-pip venv
venv/bin/python "$(ls wheels/pip-*.whl)/pip" --disable-pip-version-check install -q --no-index --no-compile \\
    --find-links wheels apache-tvm apache-tvm-ffi
venv/bin/python -c 'import tvm.rpc.server'
rm -rf wheels tmp
""",
    "native": f"./{NATIVE_SERVER} --version",
}


def set_up(
    connection: SshConnection,
    board: Board,
    say: Callable[[str], None],
    *,
    runtime: Runtime | Literal["auto"] = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Board, bool]:
    """Install what the board needs to serve, unless it is there.

    A marker is written last, so that what was broken off is found out and done again.

    Parameters
    ----------
    say
        Is told each step, in a line.
    progress
        Is told bytes that have arrived, and bytes in all.

    Returns
    -------
    board, changed
        The board as it is now; whether anything had to be done.

    Raises
    ------
    BoardSetUpError
        The board can't run what is wanted, its disk is full, or the packages are not to be had.
    BoardUnreachableError
        The connection was cut, or the board does not answer.
    """
    found = probe(connection)
    if found.emulated and not board.emulated:
        raise BoardSetUpError(
            f"{board.name} is an emulated board: its times must not pass for those of {board.target}; set it up as"
            f" {board.target}{EMULATED_SUFFIX}"
        )
    chosen = choose_runtime(found, runtime, board.name)
    if (name := payload_name(found, chosen)) not in found.complete:
        require_space(found, chosen, board.name)
        chosen, uploads = _payload(found, chosen, runtime, say)
        name = payload_name(found, chosen)
    folder = f"{found.folder}/{name}"
    complete = board.model_copy(
        update={"runtime": chosen, "folder": folder, "emulated": board.emulated or found.emulated}
    )
    if name in found.complete:
        return complete, False
    try:
        _upload(connection, folder, uploads, say, progress)
        _install(connection, folder, chosen, say)
    except BaseException:  # Ctrl-C, too
        with contextlib.suppress(OfaTvmError):  # what stopped us is the thing to tell
            connection.run(f"rm -rf {shlex.quote(folder)}", CLEAN_UP_LIMIT_S)
        raise
    return complete, True


def _payload(
    found: Probe, chosen: Runtime, wanted: Runtime | Literal["auto"], say: Callable[[str], None]
) -> tuple[Runtime, list[Upload]]:
    if chosen == "python":
        try:
            return chosen, python_payload(found, say)
        except BoardSetUpError as error:
            if wanted == "python":
                raise
            say(f"{error}; taking the native server instead")
    return "native", native_payload(found, say)


def _upload(
    connection: SshConnection,
    folder: str,
    uploads: list[Upload],
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> None:
    folders = sorted({f"{folder}/{upload.destination}".rpartition("/")[0] for upload in uploads})
    made = connection.run(f"rm -rf {shlex.quote(folder)} && mkdir -p {shlex.join(folders)}", SHORT_LIMIT_S)
    if made.code != 0:
        raise BoardSetUpError(f"{connection.address} cannot make {folder}: {made.reason}")
    total = sum(upload.source.stat().st_size for upload in uploads)
    say(f"copying {total / 1e6:.0f} MB to {connection.address}")
    before = 0

    def arrived(done: int) -> None:
        progress(before + done, total)

    for number, upload in enumerate(uploads):
        connection.put_file(upload.source, f"{folder}/{upload.destination}", arrived, upload.mode)
        if number == 0 and connection.sftp_trouble:
            say(f"copying through the shell of {connection.address}: {connection.sftp_trouble}")
        before += upload.source.stat().st_size


def _install(connection: SshConnection, folder: str, runtime: Runtime, say: Callable[[str], None]) -> None:
    say("installing it there")
    steps = f"set -e\ncd {shlex.quote(folder)}\n{_INSTALL[runtime]}\n: >complete"
    try:
        run = connection.run(steps, INSTALL_LIMIT_S)
    except BoardUnreachableError as error:
        raise BoardUnreachableError(f"{error}; run the same command again, it starts this step afresh") from error
    if run.code != 0:
        raise BoardSetUpError(f"installing the {runtime} runtime on {connection.address} failed: {run.reason}")
