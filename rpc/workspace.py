"""The folder of one session's files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tvm.support import utils

PREFIX = "ofa_tvm_rpc_"


class Uploads(utils.TempDirectory):  # type: ignore[misc]  # of whose types nothing is known
    """The folder of the files a client uploads; a name that leads out of it is refused."""

    def relpath(self, name: str) -> str:
        """Path of the file that a client names."""
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"file {name} would lie outside the session's folder")
        return str(super().relpath(name))


@contextlib.contextmanager
def new_workspace() -> Iterator[str]:
    """A folder that is in use until here and in the session's process nobody has it any more."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as workspace, claim(workspace):
        yield workspace


@contextlib.contextmanager
def claim(workspace: str | Path) -> Iterator[bool]:
    """Lock a workspace, which its session's process inherits; whether it is ours and was free."""
    folder = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        free = os.fstat(folder).st_uid == os.geteuid()
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        yield free
    finally:
        os.close(folder)


def remove_abandoned_workspaces() -> None:
    """Remove what servers that were killed have left."""
    for workspace in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), claim(workspace) as ours:
            if ours:
                shutil.rmtree(workspace, ignore_errors=True)
