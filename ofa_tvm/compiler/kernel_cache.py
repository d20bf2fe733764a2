"""Object code of kernels on disk, so that a kernel is compiled once for a target and not once a process."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import secrets
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import tvm
import tvm_ffi
from tvm.target.codegen import llvm_version_major

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import Parameters
from ofa_tvm.files import output_errors
from ofa_tvm.space.workload import Workload

Kernel = tuple[Workload, Parameters]

SUFFIX = ".o.gz"
LIMIT_BYTES = 1 << 30
_LEFT = 0.9
"""The share of the limit that is left after throwing away, so that it is not done for each kernel anew."""

_PACKAGE = Path(__file__).parents[1]
SOURCES = (
    *sorted((_PACKAGE / "compiler" / "templates").glob("*.py")),
    *(_PACKAGE / "compiler" / name for name in ("kernels.py", "layout.py", "machine.py", "object_code.py")),
    _PACKAGE / "space" / "workload.py",
)
"""All that decides what code a kernel gets. To emit each kernel and take the digest of its TIR would say it more
precisely, but takes 0.9 ms a kernel, nine times as long as to read its object code."""


def digest_of(paths: Iterable[Path]) -> str:
    """One SHA-256 of the contents of several files."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()


# On import, as the templates are: who edits them while a process runs must not change what its code is kept as.
_CODE = digest_of(SOURCES)


class KernelCache:
    """A folder of compressed object files, which many processes may use at once.

    A file's name is the digest of all that its content depends on, and the content has a checksum: whatever is
    damaged, or of another version of this package, is not found.

    Parameters
    ----------
    target, machine
        What kernels are compiled for.
    limit_bytes
        What `trim` leaves at most.
    """

    def __init__(
        self, folder: Path, target: tvm.target.Target, machine: Machine, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._common = {
            "target": json.loads(str(target)),
            "machine": asdict(machine),
            "versions": [tvm.__version__, tvm_ffi.__version__, llvm_version_major()],
            "code": _CODE,
        }

    def path(self, kernel: Kernel) -> Path:
        """Where a kernel's object code is, or would be."""
        workload, parameters = kernel
        content = {**self._common, "workload": workload.to_dict(), "parameters": parameters.to_dict()}
        return self.folder / f"{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}{SUFFIX}"

    def get(self, kernel: Kernel) -> bytes | None:
        """A kernel's object code; None if it is not there, or damaged."""
        path = self.path(kernel)
        try:
            code = gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error):
            return None
        with suppress(OSError):
            os.utime(path)  # the time of the last use, for `trim`
        return code or None  # an empty file would pass for an empty archive

    def put(self, kernel: Kernel, code: bytes) -> None:
        """Keep a kernel's object code. Not flushed to the disk, which would take longer: get notices what is lost.

        Raises
        ------
        OutputError
            It can't be written.
        """
        path = self.path(kernel)
        with output_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / f".{secrets.token_hex(8)}{SUFFIX}"  # for all whom the umask lets read it
            try:
                with temporary.open("xb") as stream:
                    stream.write(gzip.compress(code, compresslevel=1, mtime=0))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def trim(self) -> None:
        """Throw away what was not used for the longest time, if all together is more than the limit."""
        files = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another process trims, too
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        if total <= self.limit_bytes:
            return
        for _, size, path in sorted(files):
            if total <= _LEFT * self.limit_bytes:
                return
            with suppress(OSError):
                path.unlink()
            total -= size
