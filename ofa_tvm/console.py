"""What all commands share: exit codes, interruption, streams, progress and common options.

A command module imports this one first, so that Ctrl-C during the imports that follow is one line too,
and ends with ``if __name__ == "__main__": run(app)``. Results go to stdout, as a table or, with ``--json``,
as one JSON value; progress, logs and errors go to stderr. An error is one line of text even with ``--json``:
what a program needs to know is the exit code (`ofa_tvm.errors`).
"""

from __future__ import annotations

from ofa_tvm.interruption import (  # first: typer takes its time
    INTERRUPTED,
    forget_interruption,
    handle_signals,
    ignore_signals,
)

# isort: split
import contextlib
import errno
import inspect
import io
import json
import logging
import math
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from ofa_tvm.errors import EXIT_INTERRUPTED, OfaTvmError

# Commands compute on small matrices, where BLAS threads only wait for each other; on a busy host ten times longer.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# ONNX Runtime otherwise leaves an identifier of this host in TMPDIR and sends what it does to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_CLOSED_PIPE = 128 + signal.SIGPIPE
"""Whoever read stdout has gone (``| head``): the code the shell gives a program that SIGPIPE killed."""

_OUTPUT_REFUSED = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EFBIG)
_PLAIN_INTERVAL_S = 10.0
_ESTIMATE_FROM = 0.05

TargetOption = Annotated[str, typer.Option("--target", help="A target's name, or the path of its YAML.")]
SupernetOption = Annotated[str, typer.Option("--supernet", help="A supernet's name, or its folder.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder where all targets' measurements are kept.")]
TrackerOption = Annotated[
    str | None, typer.Option("--tracker", help="RPC tracker as host:port; default OFA_TVM_TRACKER, else the target's.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Directory to write to.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of all that is random.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Log to stderr what happens inside.")]


def new_app(description: str, *examples: str) -> typer.Typer:
    """A typer application whose errors `run` shows, and whose help is plain text.

    Parameters
    ----------
    examples
        Command lines, shown one below the other at the end of the description.
    """
    shown = "\n".join(["\b", "Examples:", *(f"  {example}" for example in examples)])  # \b: keep these lines apart
    text = f"{inspect.cleandoc(description)}\n\n{shown}" if examples else inspect.cleandoc(description)
    return typer.Typer(help=text, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run(app: typer.Typer) -> NoReturn:
    """Run a command on ``sys.argv`` and leave the process with the right exit code.

    SIGTERM and SIGHUP act as Ctrl-C does: they raise KeyboardInterrupt, so that each ``finally`` runs.
    """
    interruption = handle_signals()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode is no reason to lose a result
    try:
        code = _invoke(app)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        # An exception that passes through TVM's callbacks comes out as another one.
        if interruption.signals or isinstance(error, KeyboardInterrupt | typer.Abort):
            ignore_signals()
            forget_interruption()
            code = _fail(INTERRUPTED, EXIT_INTERRUPTED)
        else:
            code = _report(error)
    _abandon_broken_stdout()
    sys.exit(code)


def positive_float(value: float | None) -> float | None:
    """Callback of an option that must be finite and above zero, such as a latency budget.

    Raises
    ------
    typer.BadParameter
        It is not; the command then ends with exit code 2.
    """
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{value:g} is not a positive number")
    return value


def set_verbosity(verbose: bool) -> None:
    """Log to stderr: warnings, and with `verbose` what this package does inside."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("ofa_tvm").setLevel(logging.DEBUG if verbose else logging.WARNING)


def say(text: str) -> None:
    """Tell the person at the terminal something, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def print_result(values: Mapping[str, Any], as_json: bool, table: Table | None = None) -> None:
    """Print a command's result on stdout.

    Parameters
    ----------
    values
        The result as plain JSON values.
    as_json
        Print `values` as JSON.
    table
        What to print otherwise; a row for each of `values` if there is none.
    """
    shown = _rows(values) if table is None else table
    sys.stdout.write(json.dumps(values, indent=2) + "\n" if as_json else _render(shown))
    sys.stdout.flush()


class Progress(Protocol):
    """A count that goes up."""

    def advance(self, count: int = 1) -> None:
        """Count `count` more as done."""


@contextlib.contextmanager
def progress(total: int, description: str, done: int = 0) -> Iterator[Progress]:
    """Show on stderr how far a loop is: a bar on a terminal, else a line now and then.

    Parameters
    ----------
    total
        Count at the end.
    done
        Count that an earlier run reached; it is left out of the estimate of the time left.
    """
    if not sys.stderr.isatty():
        plain = _PlainProgress(total, description, done)
        try:
            yield plain
        finally:
            plain.close()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True)) as bars:
        yield _Bar(bars, total, description, done)


class _Bar:
    def __init__(self, bars: RichProgress, total: int, description: str, done: int) -> None:
        self._bars = bars
        self._task = bars.add_task(description, total=total, completed=done)

    def advance(self, count: int = 1) -> None:
        self._bars.advance(self._task, count)


class _PlainProgress:
    def __init__(self, total: int, description: str, done: int) -> None:
        self._total, self._description, self._first, self._done = total, description, done, done
        self._start_s = self._shown_s = time.monotonic()
        self._shown = -1
        self._show()

    def advance(self, count: int = 1) -> None:
        self._done += count
        if time.monotonic() - self._shown_s >= _PLAIN_INTERVAL_S:
            self._show()

    def close(self) -> None:
        if self._shown != self._done:
            self._show()

    def _show(self) -> None:
        self._shown_s, self._shown = time.monotonic(), self._done
        counted, remaining = self._done - self._first, self._total - self._done
        # The first few say little about the rest: what takes long may come in batches.
        known = remaining and counted >= _ESTIMATE_FROM * (self._total - self._first)
        left = f", {duration(remaining * (self._shown_s - self._start_s) / counted)} left" if known else ""
        say(f"{self._description}: {self._done}/{self._total}{left}")


def duration(seconds: float) -> str:
    """A time span for people: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _invoke(app: typer.Typer) -> int:
    """Parse and run. Not ``app()``: that shows errors itself and takes any broken pipe for one of stdout."""
    command = typer.main.get_command(app)
    if isinstance(app.info.help, str):
        command.help = app.info.help  # an app of a single command would show that function's docstring
    try:
        with command.make_context(_program(), sys.argv[1:]) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _program() -> str:
    """What the user typed to start this command."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else Path(sys.argv[0]).name


def _fail(message: str, code: int) -> int:
    """Say the last line: whatever TVM's objects log when the exception lets go of them would only blur it."""
    with contextlib.suppress(OSError):
        say(" ".join(message.split()))
        _send_nowhere(sys.stderr)
    return code


def _report(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    if isinstance(error, OfaTvmError):
        return _fail(f"error: {error}", error.exit_code)
    if isinstance(error, typer.TyperException):
        return _fail(f"error: {error.format_message().rstrip('.')}; see {_program()} --help", EXIT_USAGE)
    if isinstance(error, OSError):
        return _os_error(error)
    return _bug()


def _os_error(error: OSError) -> int:
    if isinstance(error, BrokenPipeError) and _stdout_has_no_reader():
        return EXIT_CLOSED_PIPE
    if error.errno in _OUTPUT_REFUSED:
        place = error.filename or "the output"
        if error.errno == errno.EACCES:  # may be an input, too
            return _fail(f"error: cannot open {place}: {error.strerror}; allow it or name another place", EXIT_USAGE)
        advice = "free some space there or name another place"
        return _fail(f"error: cannot write {place}: {error.strerror}; {advice}", EXIT_USAGE)
    return _bug()


def _bug() -> int:
    traceback.print_exc()
    return _fail(f"this is a bug in ofa_tvm: please report the lines above and the command: {_command()}", EXIT_BUG)


def _command() -> str:
    return " ".join([_program(), *sys.argv[1:]])


def _stdout_has_no_reader() -> bool:
    """Whether stdout is a pipe that nobody reads; a pipe or socket to a device may be the broken one instead."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _abandon_broken_stdout() -> None:
    """If stdout can't be written any more, let the interpreter's own flush at exit go nowhere."""
    try:
        sys.stdout.flush()
    except OSError:
        _send_nowhere(sys.stdout)


def _send_nowhere(stream: TextIO) -> None:
    """Let what this process, native code included, still writes to a standard stream vanish."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _render(table: Table) -> str:
    """The table as text, as wide as the terminal; in a pipe as wide as it needs, so that nothing is cut off."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    text = io.StringIO()
    console = Console(file=text, width=width, markup=False, highlight=False)
    if table.title:  # as a line of its own, for rich would break it where the table ends
        console.print(table.title)
        table.title = None
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _rows(values: Mapping[str, Any]) -> Table:
    table = Table("", "", show_header=False)
    for name, value in values.items():
        table.add_row(name, str(value))
    return table
