"""The standard streams of a command, whichever of them are closed, full, or shared with native code."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from ofa_tvm.errors import OutputError
from ofa_tvm.printable import printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT, STDERR = 1, 2


def prepare_streams() -> None:
    """Give the process the three standard streams that everything in it may rely on.

    A closed one would give its number to the next file that is opened, and whatever is printed would end there.
    Nothing is read without stdin, and without stderr the exit code says enough: both become the null device.

    Raises
    ------
    OutputError
        stdout is closed: better known before the work than after it.
    """
    stdin, stdout, stderr = (_is_usable(descriptor) for descriptor in range(3))
    for descriptor, usable in enumerate((stdin, stdout, stderr)):
        if not usable:
            _open_nowhere(descriptor)
    if not stderr:
        sys.stderr = open(STDERR, "w", closefd=False)  # noqa: SIM115
    _part_from_native_code()
    if not stdout:
        sys.stdout = open(STDOUT, "w", closefd=False)  # noqa: SIM115
        raise OutputError("stdout is closed: the result has nowhere to go; send it to /dev/null if nobody needs it")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode is no reason to lose a result


def last_line(text: str) -> None:
    """Say a last line on stderr: whatever native objects log when all lets go of them would only blur it."""
    with contextlib.suppress(OSError):
        sys.stderr.write(printable(" ".join(text.split())) + "\n")
        sys.stderr.flush()
        send_nowhere(sys.stderr)
        mute_native_code()


def mute_native_code() -> None:
    """Keep stderr to Python: native libraries complain there about work that an exception made them leave."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    os.close(nowhere)


def send_nowhere(stream: TextIO) -> None:
    """Let what this process, native code included, still writes to a standard stream vanish."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def abandon_broken_stdout() -> None:
    """If stdout can't be written any more, let the interpreter's own flush at exit go nowhere."""
    try:
        sys.stdout.flush()
    except OSError:
        send_nowhere(sys.stdout)


def _is_usable(descriptor: int) -> bool:
    """Whether it is open, and if it is one of the outputs, for writing."""
    try:
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return False
    return descriptor not in (STDOUT, STDERR) or mode != os.O_RDONLY


def _open_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == descriptor:  # the lowest number that was free
        os.set_inheritable(descriptor, True)
    else:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _part_from_native_code() -> None:
    """Give Python a descriptor of its own for stderr, so that the other can be muted."""
    lenient = io.BufferedWriter(_Lenient(os.dup(STDERR), "w"))
    sys.stderr = io.TextIOWrapper(lenient, sys.stderr.encoding, errors="backslashreplace", line_buffering=True)


class _Lenient(io.FileIO):
    """Loses what can't be written: a full disk or a reader that has gone is no reason to end the work it is told of."""

    def write(self, block: ReadableBuffer, /) -> int:
        written = None  # as if it could not be written now
        with contextlib.suppress(OSError):
            written = super().write(block)
        return memoryview(block).nbytes if written is None else written
