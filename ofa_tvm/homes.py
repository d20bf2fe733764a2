"""The folders that a user of this host has for what commands keep, whoever that user is."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from ofa_tvm.errors import UsageError


def state_folder() -> Path:
    """Where this host keeps what must outlive a command: boards, their links, their host keys.

    Raises
    ------
    UsageError
        This user has no home.
    """
    if own := os.environ.get("OFA_TVM_STATE"):
        return Path(own).resolve()
    base = os.environ.get("XDG_STATE_HOME")
    return ((Path(base) if base else _home("OFA_TVM_STATE") / ".local" / "state") / "ofa_tvm").resolve()


def cache_folder() -> Path:
    """Where this host keeps what can be fetched or built again.

    Raises
    ------
    UsageError
        This user has no home.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else _home("XDG_CACHE_HOME") / ".cache") / "ofa_tvm"


def place_option(path: Path) -> str:
    """The option or variable that decides where a file lies."""
    for folder, option in ((state_folder, "OFA_TVM_STATE"), (cache_folder, "XDG_CACHE_HOME")):
        try:
            if path.absolute().is_relative_to(folder().absolute()):
                return option
        except UsageError:
            continue
    return "--out or --runs"


def user_name() -> str | None:
    """The login name of whoever runs this; None for a user id that the system has no name for."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _home(instead: str) -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise UsageError(f"user {os.getuid()} has no home folder here; set HOME, or {instead}") from None
