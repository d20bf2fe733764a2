"""What all commands share as processes: exit codes, interruption, streams and common options.

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
    mute_native_code,
)

# isort: split
import contextlib
import errno
import gc
import inspect
import io
import logging
import math
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn, TextIO

import typer

from ofa_tvm.display import say
from ofa_tvm.errors import EXIT_INTERRUPTED, OfaTvmError, UsageError
from ofa_tvm.targets import Target, emulated_variant, load_target

# Commands compute on small matrices, where BLAS threads only wait for each other; on a busy host ten times longer.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# ONNX Runtime otherwise leaves an identifier of this host in TMPDIR and sends what it does to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Importing torch and TVM makes half a million objects that stay: to look through them for garbage again and again
# takes a fifth of the time that a command needs to start.
gc.set_threshold(100_000, 20, 20)

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_CLOSED_PIPE = 128 + signal.SIGPIPE
"""Whoever read stdout has gone (``| head``): the code the shell gives a program that SIGPIPE killed."""

_OUTPUT_REFUSED = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EFBIG)

TargetOption = Annotated[str, typer.Option("--target", help="A target's name, or the path of its YAML.")]
SupernetOption = Annotated[str, typer.Option("--supernet", help="A supernet's name, or its folder.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder where all targets' measurements are kept.")]
TrackerOption = Annotated[
    str | None, typer.Option("--tracker", help="RPC tracker as host:port; default OFA_TVM_TRACKER, else the target's.")
]
EmulateOption = Annotated[
    bool,
    typer.Option("--emulate", help="Start an emulated board for this run (needs root); its times mean nothing."),
]
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


def chosen_target(name_or_path: str, emulate: bool, tracker: str | None) -> Target:
    """The target of ``--target``; with ``--emulate`` its emulated variant.

    Raises
    ------
    UsageError
        There is no such target, it can't be emulated, or a tracker is given for a board that gets its own.
    """
    target = load_target(name_or_path)
    if emulate and tracker is not None:
        raise UsageError(
            f"--tracker {tracker}: with --emulate the board gets a tracker of its own; leave one of them out"
        )
    return emulated_variant(target) if emulate else target


@contextlib.contextmanager
def tracker_for(target: Target, emulate: bool, tracker: str | None) -> Iterator[str | None]:
    """The tracker of ``--tracker``; with ``--emulate`` one with an emulated board, for as long as the context lasts.

    Parameters
    ----------
    target
        As `chosen_target` gives it.

    Raises
    ------
    TrackerUnreachableError, EmulationError, BoardSetUpError, BoardUnreachableError
        As `ofa_tvm.boards.emulated_boards.emulated_farm`.
    """
    if not emulate:
        yield tracker
        return
    from ofa_tvm.boards.emulated_boards import emulated_farm

    with emulated_farm(target, say) as address:
        yield str(address)


def set_verbosity(verbose: bool) -> None:
    """Log to stderr: warnings, and with `verbose` what this package does inside."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("ofa_tvm").setLevel(logging.DEBUG if verbose else logging.WARNING)


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
        mute_native_code()
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
