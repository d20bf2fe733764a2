"""A command's application, and what its errors are to whoever typed it.

Results go to stdout, as a table or, with ``--json``, as one JSON value; progress, logs and errors go to stderr.
An error is one line of text even with ``--json``: what a program needs to know is the exit code (`ofa_tvm.errors`).
"""

from __future__ import annotations

import errno
import inspect
import logging
import select
import signal
import sys
import traceback
from collections.abc import Sequence

import typer

from ofa_tvm.errors import OfaTvmError
from ofa_tvm.refusals import refusal
from ofa_tvm.streams import last_line

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_CLOSED_PIPE = 128 + signal.SIGPIPE
"""Whoever read stdout has gone (``| head``): the code the shell gives a program that SIGPIPE killed."""

_NO_BUG = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG}
_REFUSED = {errno.EACCES, errno.EPERM}


def new_app(description: str, *examples: str) -> typer.Typer:
    """A typer application for `run_app`, and whose help is plain text.

    Parameters
    ----------
    examples
        Command lines, shown one below the other at the end of the description.
    """
    shown = "\n".join(["\b", "Examples:", *(f"  {example}" for example in examples)])  # \b: keep these lines apart
    text = f"{inspect.cleandoc(description)}\n\n{shown}" if examples else inspect.cleandoc(description)
    return typer.Typer(help=text, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def set_verbosity(verbose: bool) -> None:
    """Log to stderr: warnings, and with `verbose` what this package does inside."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("ofa_tvm").setLevel(logging.DEBUG if verbose else logging.WARNING)


def run_app(app: typer.Typer, program: str, arguments: Sequence[str]) -> int:
    """Parse and run; the exit code. Not ``app()``: that shows errors itself, and takes any broken pipe for stdout's.

    Parameters
    ----------
    program, arguments
        What the user typed to start this command, and what followed.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # warns where it can't keep its cache, which harms nobody
    command = typer.main.get_command(app)
    if isinstance(app.info.help, str):
        command.help = app.info.help  # an app of a single command would show that function's docstring
    try:
        with command.make_context(program, list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    return 0


def report(error: Exception, program: str, arguments: Sequence[str]) -> int:
    """Say what went wrong, in the last line on stderr; the exit code."""
    if isinstance(error, OfaTvmError):
        return _fail(f"error: {error}", error.exit_code)
    if isinstance(error, typer.TyperException):
        return _fail(f"error: {error.format_message().rstrip('.')}{_value(error)}; see {program} --help", EXIT_USAGE)
    if isinstance(error, BrokenPipeError) and _stdout_has_no_reader():
        return EXIT_CLOSED_PIPE
    if isinstance(error, OSError) and (error.errno in _NO_BUG or (error.errno in _REFUSED and error.filename)):
        doing = "open" if error.errno in _REFUSED else "write"  # what is refused may be an input, too
        return _fail(f"error: cannot {doing} {error.filename or 'the output'}: {refusal(error)}", EXIT_USAGE)
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):  # of Python's `tempfile`
        return _fail(f"error: {error.strerror}; name a folder that can be written with TMPDIR", EXIT_USAGE)
    traceback.print_exc()
    command = " ".join([program, *arguments])
    return _fail(f"this is a bug in ofa_tvm: please report the lines above and the command: {command}", EXIT_BUG)


def _value(error: typer.TyperException) -> str:
    """The value that typer refused, where its own message leaves it out: where pydantic found the fault."""
    faults = getattr(error.__cause__, "errors", None)  # pydantic itself would take its time to import
    return f", not {faults()[0]['input']}" if faults else ""


def _fail(message: str, code: int) -> int:
    last_line(message)
    return code


def _stdout_has_no_reader() -> bool:
    """Whether stdout is a pipe that nobody reads; a pipe or socket to a device may be the broken one instead."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))
