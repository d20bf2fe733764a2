"""Where every command begins: ``python -m ofa_tvm NAME``, ``python -m ofa_tvm.NAME``, or ``ofa_tvm NAME``.

A module that is a command has a typer application ``app``, and begins with ::

    if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
        from ofa_tvm.entry import enter

        enter("ofa_tvm.deploy")

which imports the module again under its own name, runs it and ends the process. What holds for the process (signals,
streams, environment, which libraries stay out) is set here, and nowhere at an import. So this module imports
nothing that takes time.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from ofa_tvm.errors import EXIT_INTERRUPTED, UsageError
from ofa_tvm.interruption import INTERRUPTED, Interruption, forget_interruption, handle_signals, ignore_signals
from ofa_tvm.light_tvm import keep_tvm_light
from ofa_tvm.streams import abandon_broken_stdout, last_line, prepare_streams


class Command(NamedTuple):
    """A row of the list of commands.

    Attributes
    ----------
    summary
        What ``python -m ofa_tvm`` says of it.
    runtime_only
        Leave torch and TVM's compiler out of the process: they take seconds and hundreds of megabytes.
    compiling
        Subcommands for which that does not hold.
    """

    module: str
    summary: str
    runtime_only: bool = False
    compiling: tuple[str, ...] = ()

    def is_light(self, arguments: Sequence[str]) -> bool:
        """Whether torch and the compiler stay out of a process with these arguments."""
        return self.runtime_only and not (arguments and arguments[0] in self.compiling)


COMMANDS = {
    "train": Command("ofa_tvm.train", "Train a supernet by progressive shrinking."),
    "accuracy": Command("ofa_tvm.accuracy", "Measure the accuracy of subnets, and train its predictor."),
    "tune": Command("ofa_tvm.tune", "Tune the kernels of a search space on a device, once for every subnet."),
    "profile": Command("ofa_tvm.profile", "Measure kernels and subnets on a device, and train its latency predictor."),
    "search": Command("ofa_tvm.search", "Search the subnets that are predicted best for their latency."),
    "deploy": Command("ofa_tvm.deploy", "Deliver the most accurate subnet that is measured to meet a latency budget."),
    "bundle": Command("ofa_tvm.bundle.__main__", "Verify, run and show what deploy delivered.", runtime_only=True),
    "devices": Command(
        "ofa_tvm.devices",
        "Find, set up and check the devices that are measured on.",
        runtime_only=True,
        compiling=("check",),
    ),
}
"""In the order of the flow."""


def main() -> NoReturn:
    """Run the command that the first argument names; list all of them if there is none."""
    program, arguments = _program(), sys.argv[1:]
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        enter(COMMANDS[name].module, f"{program} {name}", arguments[1:])
    _end(program, arguments, lambda: _list(program, arguments))


def enter(module: str, program: str | None = None, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the application of a module as this process's command, and end the process with its exit code.

    SIGTERM and SIGHUP act as Ctrl-C does: they raise KeyboardInterrupt, so that each ``finally`` runs.

    Parameters
    ----------
    program, arguments
        What the user typed to start the command, and what followed; by default as the interpreter has it.
    """
    program = _program() if program is None else program
    arguments = sys.argv[1:] if arguments is None else arguments

    def run() -> int:
        _prepare(module, arguments)
        from ofa_tvm.console import run_app  # typer takes its time

        return run_app(importlib.import_module(module).app, program, arguments)

    _end(program, arguments, run)


def _end(program: str, arguments: Sequence[str], run: Callable[[], int]) -> NoReturn:
    """Run, whatever happens, and leave the process with the right exit code and at most one line of error."""
    interruption = Interruption()
    try:
        prepare_streams()
        handle_signals(interruption)
        code = run()
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        # An exception that passes through TVM's callbacks comes out as another one.
        if interruption.signals or isinstance(error, KeyboardInterrupt):
            ignore_signals()
            forget_interruption()
            last_line(INTERRUPTED)
            code = EXIT_INTERRUPTED
        else:
            from ofa_tvm.console import report

            code = report(error, program, arguments)
    abandon_broken_stdout()
    sys.exit(code)


def _prepare(module: str, arguments: Sequence[str]) -> None:
    """Set what has to be set before a library is loaded."""
    # Commands compute on small matrices, where BLAS threads only wait for each other; on a busy host ten times longer.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # ONNX Runtime otherwise leaves an identifier of this host in TMPDIR and sends what it does to its maker.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # TVM looks for the user's home as it is imported. Who has none, as a bare user id in a container, gets Debian's
    # name for that: whatever would be kept there is refused with a reason, or done without.
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"
    # Importing torch and TVM makes half a million objects that stay: to look through them for garbage again and again
    # takes a fifth of the time that a command needs to start.
    gc.set_threshold(100_000, 20, 20)
    if any(command.module == module and command.is_light(arguments) for command in COMMANDS.values()):
        keep_tvm_light()


def _list(program: str, arguments: Sequence[str]) -> int:
    if arguments and arguments[0] != "--help":
        from ofa_tvm.names import nearest

        raise UsageError(f"no command {arguments[0]!r}; {program} lists them all{nearest(arguments[0], COMMANDS)}")
    width = max(map(len, COMMANDS))
    rows = (f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items())
    text = (
        "Deploy the most accurate subnet of a supernet that meets a latency budget on a device, by measurement.",
        "",
        "Commands, in the order of their use:",
        *rows,
        "",
        f"More on each: {program} NAME --help",
    )
    sys.stdout.write("\n".join(text) + "\n")
    return 0


def _program() -> str:
    """What the user typed to start this process."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else Path(sys.argv[0]).name
