"""The options that commands share, and what they mean."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ofa_tvm.display import say
from ofa_tvm.errors import UsageError
from ofa_tvm.targets import Target, emulated_variant, load_target

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


# Divisors, for they leave 71us at 0.071 ms; the micro sign and the Greek letter look alike.
_PER_MS = {"": 1.0, "ms": 1.0, "us": 1e3, "\u00b5s": 1e3, "\u03bcs": 1e3, "s": 1e-3}
_LATENCY = re.compile(rf"([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)? *({'|'.join(_PER_MS)})")


def latency_ms(text: str) -> float:
    """What ``--latency`` says, in milliseconds.

    Parameters
    ----------
    text
        A number, in milliseconds unless the unit ms, us or s follows.

    Raises
    ------
    typer.BadParameter
        It is no such thing, or not above zero; the command then ends with exit code 2.
    """
    found = _LATENCY.fullmatch(text.strip())
    value = float(found[1] + (found[2] or "")) / _PER_MS[found[3]] if found else 0.0
    if not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{text!r} is no latency; write it as 30 (milliseconds), 0.1ms, 70us or 0.2s")
    return value


LATENCY = typer.Option(
    "--latency",
    parser=latency_ms,
    metavar="LATENCY",
    help="Latency budget in milliseconds, or with a unit: 30, 70us, 0.2s.",
)
"""Of ``--latency``, for the commands that need a budget and for those that may have one."""


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
