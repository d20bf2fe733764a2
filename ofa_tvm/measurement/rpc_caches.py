"""What a session keeps on the device from job to job: libraries, and arguments for their functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm.runtime.vm import VirtualMachine

LIBRARY_CACHE_BYTES = 256 << 20
FILL_FUNCTION = "tvm.contrib.random.uniform"


@dataclass(slots=True)
class _Library:
    name: str
    size_bytes: int
    module: Any
    machine: Any = None


class LibraryCache:
    """Libraries on the device, each uploaded once; the least recently used go when they get too large together.

    A file that was written anew is another library, whatever its name.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._libraries: dict[tuple[Path, int, int], _Library] = {}
        self._uploads = 0

    def module(self, path: Path) -> Any:
        """The remote module."""
        return self._get(path).module

    def machine(self, path: Path) -> Any:
        """The Relax virtual machine of a subnet's library."""
        library = self._get(path)
        if library.machine is None:
            library.machine = VirtualMachine(library.module, self._session.cpu(0))
        return library.machine

    def _get(self, path: Path) -> _Library:
        status = path.stat()
        key = (path, status.st_mtime_ns, status.st_size)
        library = self._libraries.pop(key, None) or self._upload(path, status.st_size)
        self._libraries[key] = library  # last, as the most recently used
        return library

    def _upload(self, path: Path, size_bytes: int) -> _Library:
        while self._libraries and size_bytes + self._total_bytes() > LIBRARY_CACHE_BYTES:
            self._drop(next(iter(self._libraries)))
        name = f"{self._uploads}-{path.name}"  # libraries of several folders may have one name
        self._uploads += 1
        self._session.upload(bytearray(path.read_bytes()), name)
        return _Library(name, size_bytes, self._session.load_module(name))

    def _drop(self, key: tuple[Path, int, int]) -> None:
        library = self._libraries.pop(key)
        library.machine = library.module = None  # the device unloads it
        self._session.remove(library.name)

    def _total_bytes(self) -> int:
        return sum(library.size_bytes for library in self._libraries.values())


class ArgumentCache:
    """Float32 tensors on the device, uniform in [-1, 1], filled over there.

    There is one array for each role, which grows as it has to; tensors are views of its beginning. So the hundreds
    of shapes of a tuning run are filled a few times only. An output never serves as an input later, so that values
    do not grow from job to job.
    """

    def __init__(self, session: Any) -> None:
        self._cpu = session.cpu(0)
        self._fill = session.get_function(FILL_FUNCTION)
        self._arrays: dict[str, tuple[int, Any]] = {}

    def get(self, shapes: tuple[tuple[int, ...], ...], outputs: int = 1) -> list[Any]:
        """One tensor a shape, all apart; so many of the last are outputs."""
        inputs = len(shapes) - outputs
        roles = [f"input {index}" if index < inputs else f"output {index - inputs}" for index in range(len(shapes))]
        return [self._tensor(role, shape) for role, shape in zip(roles, shapes, strict=True)]

    def _tensor(self, role: str, shape: tuple[int, ...]) -> Any:
        elements = math.prod(shape)
        size, array = self._arrays.get(role, (0, None))
        if size < elements:
            self._arrays.pop(role, None)  # the device may have no room for both
            del array
            size = 1 << (elements - 1).bit_length()
            array = tvm.runtime.empty((size,), "float32", self._cpu)
            self._fill(-1.0, 1.0, array)
            self._arrays[role] = size, array
        return array._create_view(shape)
