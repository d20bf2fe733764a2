"""Compiling the C++ parts of benchmarks."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ofa_tvm.errors import CompileError

COMPILER = "g++"


def compile_cpp(source: Path, output: Path, *options: str) -> None:
    """Compile a file of this folder.

    Raises
    ------
    CompileError
        There is no compiler, or it fails.
    """
    try:
        subprocess.run([COMPILER, *options, "-o", str(output), str(source)], check=True, capture_output=True)
    except FileNotFoundError as error:
        raise CompileError(f"{COMPILER} is not installed; run scripts/setup.sh") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise CompileError(f"{COMPILER} cannot build {source.name}: {reason}") from error
