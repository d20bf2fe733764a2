"""The process that `ofa_tvm.bundle.trial` starts: load the library, run it on the sample, time it, report.

Its reports are lines: one when the library is loaded, one now and then when a run ends, at last the trial as JSON.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ofa_tvm.bundle.files import load_sample
from ofa_tvm.bundle.manifest import SAMPLE_INPUT, SAMPLE_OUTPUT
from ofa_tvm.bundle.runner import BundleRunner
from ofa_tvm.bundle.trial import LOADED, RAN, REPORT_EVERY_S, Trial
from ofa_tvm.errors import OfaTvmError
from ofa_tvm.lowering.check import relative_error

_WARMUP_RUNS = 3


def _try(directory: Path, repeats: int, pause_s: float, report: Callable[[str], None]) -> Trial:
    runner = BundleRunner(directory)
    sample = load_sample(directory / SAMPLE_INPUT, runner.manifest.input.shape)
    expected = load_sample(directory / SAMPLE_OUTPUT, runner.manifest.output.shape)
    report(LOADED)
    error = relative_error(expected, runner.run(sample))
    report(RAN)
    timed = _Timed(lambda: runner.run(sample), report)
    return Trial(
        relative_error=error if np.isfinite(error) else None,
        samples_ms=timed.samples_ms(repeats, 0.0),
        sporadic_ms=timed.samples_ms(repeats, pause_s) if pause_s else (),
    )


class _Timed:
    """Runs, timed one by one, and told of now and then."""

    def __init__(self, run: Callable[[], object], report: Callable[[str], None]) -> None:
        self._run, self._report = run, report
        self._reported_s = time.monotonic()

    def samples_ms(self, repeats: int, pause_s: float) -> tuple[float, ...]:
        """So many after a warm-up, in milliseconds; before each of them the process sleeps for `pause_s`."""
        samples_ms = [self._sample_ms(pause_s) for _ in range(_WARMUP_RUNS + repeats if repeats else 0)]
        return tuple(samples_ms[_WARMUP_RUNS:])

    def _sample_ms(self, pause_s: float) -> float:
        if pause_s:
            time.sleep(pause_s)
        start_s = time.perf_counter()
        self._run()
        sample_ms = (time.perf_counter() - start_s) * 1e3
        if time.monotonic() - self._reported_s >= REPORT_EVERY_S:
            self._report(RAN)
            self._reported_s = time.monotonic()
        return sample_ms


def _main(directory: str, repeats: str, pause_ms: str, descriptor: str) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash here is an answer, not something to debug
    os.set_inheritable(int(descriptor), False)
    with os.fdopen(int(descriptor), "w", buffering=1) as reports:
        try:
            trial = _try(Path(directory), int(repeats), float(pause_ms) / 1e3, lambda line: print(line, file=reports))
        except OfaTvmError as error:
            sys.stderr.write(" ".join(str(error).split()) + "\n")
            return error.exit_code
        reports.write(trial.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
