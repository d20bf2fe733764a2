"""Run a bundle's library on its sample in a process of its own, where it can crash without harm.

The process is a fresh one, not a fork: it has neither torch nor TVM's compiler nor anything else that the
caller may have loaded, so a trial that succeeds shows that the bundle stands alone.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

import ofa_tvm
from ofa_tvm.bundle.manifest import LIBRARY, read_manifest
from ofa_tvm.bundle.watched import Ended, SilentError, run_watched
from ofa_tvm.errors import InvalidBundleError

TIMEOUT_S = 120.0
REPORT_EVERY_S = 1.0
"""Runs are told of no more often: whoever listens would disturb the next one."""

LOADED = "loaded"
RAN = "ran"


class Trial(BaseModel):
    """What a trial found.

    Attributes
    ----------
    relative_error
        Of the library's output here against the sample output (`ofa_tvm.lowering.check.relative_error`);
        None where an output is not finite.
    samples_ms
        One run each, one after the other, after a warm-up; empty if no timing was asked for.
    sporadic_ms
        One run each after a pause; empty if no pause was asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    relative_error: float | None
    samples_ms: tuple[float, ...]
    sporadic_ms: tuple[float, ...] = ()


def run_trial(directory: Path, repeats: int = 0, pause_ms: float = 0.0, timeout_s: float = TIMEOUT_S) -> Trial:
    """Run the library on the sample input once, then `repeats` times for its latency on this machine.

    Parameters
    ----------
    pause_ms
        Time it as many times more with such a pause before each run; 0 for not at all.
    timeout_s
        Limit for the process's start with all loading, and for each run; not for all of them together.

    Raises
    ------
    InvalidBundleError
        The library can't be loaded, crashes, or hangs.
    """
    library = directory / LIBRARY
    command = [sys.executable, "-m", "ofa_tvm.bundle.trial_process", str(directory), str(repeats), str(pause_ms)]
    try:
        ended = run_watched(command, _environment(), timeout_s + REPORT_EVERY_S + pause_ms / 1e3)
    except SilentError as error:
        what = "end a run" if LOADED in error.reports else "load"
        raise InvalidBundleError(f"{library} did not {what} within {timeout_s:g} s; write the bundle again") from error
    return _result(directory, ended)


def _result(directory: Path, ended: Ended) -> Trial:
    library = directory / LIBRARY
    if ended.code < 0:
        number = -ended.code
        raise InvalidBundleError(f"{library} was stopped by {signal.Signals(number).name}{_advice(directory, number)}")
    if ended.code:
        raise InvalidBundleError((ended.log.strip().splitlines() or [f"{library}: exit code {ended.code}"])[-1])
    try:
        return Trial.model_validate_json(ended.reports[-1] if ended.reports else "")
    except ValidationError as error:
        raise InvalidBundleError(f"{library} ended the process that ran it; write the bundle again") from error


def _advice(directory: Path, number: int) -> str:
    if number != signal.SIGILL:
        return "; write the bundle again, or report it"
    target = read_manifest(directory).target
    return (
        f": it uses instructions that this CPU lacks (compiled for {target.tvm_target.get('mcpu', target.name)}); "
        f"run it on a device of target {target.name!r}, or deploy for this one"
    )


def _environment() -> dict[str, str]:
    """The caller's, with TVM's runtime instead of its compiler, and this very package importable."""
    package = str(Path(ofa_tvm.__file__).parents[1])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "TVM_USE_RUNTIME_LIB": "1", "PYTHONPATH": path}
