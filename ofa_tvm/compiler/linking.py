"""From object files to a shared library."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tvm import relax
from tvm.support import cc

from ofa_tvm.compiler.kernels import last_line
from ofa_tvm.errors import CompileError
from ofa_tvm.files import output_errors

HOST_COMPILER = "g++"
# A library of object files that TVM's LLVM made: none of C++'s libraries and start-up files, which it has no use for,
# no debug information, and no digest of the whole file. It halves the time to link, and a device need not have them.
# Its calls are of its own kernels, whatever else is loaded that has kernels of the same names.
_OPTIONS = ("-nostdlib", "-Wl,-S", "-Wl,--build-id=none", "-Wl,-Bsymbolic")
_LIBRARIES = ("-lm", "-lc", "-lgcc")


def link_library(
    path: Path, kernels: Mapping[str, bytes], cross_compiler: str, executable: relax.VMExecutable | None = None
) -> None:
    """Write a shared library that TVM can load, atomically.

    Parameters
    ----------
    kernels
        Object files by the symbol of their kernel.
    cross_compiler
        The compiler that links for the target.
    executable
        The program that calls the kernels, to be linked with them; None for a library of kernels alone.

    Raises
    ------
    CompileError
        The compiler is missing or fails.
    OutputError
        `path` can't be written.
    """

    def link(output: str, files: Sequence[str]) -> None:
        cc.create_shared(output, [*files, *_LIBRARIES], options=list(_OPTIONS), cc=cross_compiler)

    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder) / path.name
            objects = _write_objects(kernels, Path(folder))
            try:
                if executable is None:
                    link(str(temporary), objects)
                else:
                    executable.export_library(str(temporary), fcompile=link, addons=objects, workspace_dir=folder)
            except FileNotFoundError as error:
                raise CompileError(
                    f"{cross_compiler} is not installed; install it, or name another one as the target's cross_compiler"
                ) from error
            except RuntimeError as error:
                raise CompileError(f"{cross_compiler} cannot link {path.name}: {last_line(error)}") from error
            temporary.replace(path)


def _write_objects(kernels: Mapping[str, bytes], folder: Path) -> list[str]:
    paths = []
    for symbol, code in kernels.items():
        path = folder / f"{symbol}.o"
        path.write_bytes(code)
        paths.append(str(path))
    return paths
