"""Programs of the host that emulated boards are made with."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence

from ofa_tvm.errors import EmulationError


def is_arm64() -> bool:
    """Whether the host runs the board's programs itself; the board then has the host's core."""
    return platform.machine() == "aarch64"


def run(command: Sequence[str], limit_s: float) -> str:
    """Run a program of the host; what it printed.

    Raises
    ------
    EmulationError
        It fails, or takes longer than `limit_s`.
    """
    shown = " ".join(command[:8])
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=limit_s,
            env=environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise EmulationError(f"{shown}: no end within {limit_s:.0f} s; try again") from error
    except OSError as error:
        raise EmulationError(f"{shown}: {error.strerror}") from error
    if result.returncode != 0:
        lines = [line for line in result.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise EmulationError(f"{shown}: {lines[-1].strip() if lines else f'exit code {result.returncode}'}")
    return result.stdout.decode(errors="replace")


def environment() -> dict[str, str]:
    """For programs of the host: English messages, and the folders of root's programs, which ``su`` leaves out."""
    return {**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
