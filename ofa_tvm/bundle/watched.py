"""A child process that reports what it does, and is given up when it is silent for too long."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class SilentError(Exception):
    """A child process said nothing for as long as it may; `reports` is what it had said before."""

    def __init__(self, reports: tuple[str, ...]) -> None:
        super().__init__("no report")
        self.reports = reports


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child process ended.

    Attributes
    ----------
    code
        Exit code; that of a signal is negative.
    reports
        All lines that it wrote to its descriptor for reports.
    log
        What it wrote to stderr.
    """

    code: int
    reports: tuple[str, ...]
    log: str


def run_watched(command: Sequence[str], environment: Mapping[str, str], limit_s: float) -> Ended:
    """Run a command that reports now and then; the limit holds from one report to the next.

    Parameters
    ----------
    command
        Gets the number of the descriptor for its reports, lines of text, as one more argument. Its stdout goes nowhere,
        for whatever code it runs may write there.
    limit_s
        The longest silence: to the first report, between two of them, and from the last one to the process's end.

    Raises
    ------
    SilentError
        It was silent for longer, and is killed. If the caller is interrupted, it is killed, too.
    """
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as reports, tempfile.TemporaryFile() as log:
        try:
            child = subprocess.Popen(
                [*command, str(writer)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=(writer,),
            )
        finally:
            os.close(writer)
        said = bytearray()
        with child:
            try:
                while select.select([reports], [], [], limit_s)[0]:
                    if not (chunk := reports.read(65536)):
                        child.wait(limit_s)
                        break
                    said += chunk
                else:
                    raise SilentError(_lines(said))
            except subprocess.TimeoutExpired as error:
                raise SilentError(_lines(said)) from error
            finally:
                child.kill()  # of no effect on one that has ended
        log.seek(0)
        return Ended(child.returncode, _lines(said), log.read().decode(errors="replace"))


def _lines(said: bytes | bytearray) -> tuple[str, ...]:
    return tuple(said.decode(errors="replace").splitlines())
