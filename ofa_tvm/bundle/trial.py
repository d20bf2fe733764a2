"""Run a bundle's library on its sample in a process of its own, where it can crash without harm.

The process is a fresh one, not a fork: it has neither torch nor TVM's compiler nor anything else that the
caller may have loaded, so a trial that succeeds shows that the bundle stands alone.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

import ofa_tvm
from ofa_tvm.bundle.files import load_sample
from ofa_tvm.bundle.manifest import LIBRARY, SAMPLE_INPUT, SAMPLE_OUTPUT, read_manifest
from ofa_tvm.bundle.runner import BundleRunner
from ofa_tvm.errors import InvalidBundleError, OfaTvmError
from ofa_tvm.lowering.check import relative_error

TIMEOUT_S = 120.0
_WARMUP_RUNS = 3


class Trial(BaseModel):
    """What a trial found.

    Attributes
    ----------
    relative_error
        Of the library's output here against the sample output (`ofa_tvm.lowering.check.relative_error`);
        None where an output is not finite.
    samples_ms
        One run each, after a warm-up; empty if no timing was asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    relative_error: float | None
    samples_ms: tuple[float, ...]


def run_trial(directory: Path, repeats: int = 0, timeout_s: float = TIMEOUT_S) -> Trial:
    """Run the library on the sample input once, then `repeats` times for its latency on this machine.

    Raises
    ------
    InvalidBundleError
        The library can't be loaded, crashes, or does not end within `timeout_s`.
    """
    library = directory / LIBRARY
    command = [sys.executable, "-m", "ofa_tvm.bundle.trial", str(directory), str(repeats)]
    try:
        code, output, log = _run(command, timeout_s)
    except subprocess.TimeoutExpired as error:
        raise InvalidBundleError(f"{library} did not end within {timeout_s:g} s; write the bundle again") from error
    if code < 0:
        raise InvalidBundleError(f"{library} was stopped by {signal.Signals(-code).name}{_advice(directory, -code)}")
    if code:
        raise InvalidBundleError((log.strip().splitlines() or [f"{library}: exit code {code}"])[-1])
    return Trial.model_validate_json(output)


def _run(command: list[str], timeout_s: float) -> tuple[int, str, str]:
    """Exit code, stdout and stderr. Unlike `subprocess.run`, it also reaps the process if interrupted."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=_environment(), stdout=pipe, stderr=pipe, text=True) as child:
        try:
            output, log = child.communicate(timeout=timeout_s)
        except BaseException:
            child.kill()
            child.wait()
            raise
        return child.returncode, output, log


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


def _try(directory: Path, repeats: int) -> Trial:
    runner = BundleRunner(directory)
    sample = load_sample(directory / SAMPLE_INPUT, runner.manifest.input.shape)
    expected = load_sample(directory / SAMPLE_OUTPUT, runner.manifest.output.shape)
    error = relative_error(expected, runner.run(sample))
    samples_ms = []
    for _ in range(_WARMUP_RUNS + repeats if repeats else 0):
        start_s = time.perf_counter()
        runner.run(sample)
        samples_ms.append((time.perf_counter() - start_s) * 1e3)
    return Trial(relative_error=error if np.isfinite(error) else None, samples_ms=tuple(samples_ms[_WARMUP_RUNS:]))


def _main(directory: str, repeats: str) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash here is an answer, not something to debug
    try:
        trial = _try(Path(directory), int(repeats))
    except OfaTvmError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return error.exit_code
    sys.stdout.write(json.dumps(trial.model_dump()))
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
