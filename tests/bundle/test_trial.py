"""What the trial's process times and tells."""

from __future__ import annotations

import pytest

from ofa_tvm.bundle import trial_process
from ofa_tvm.bundle.trial import RAN, run_trial


class Clock:
    """Stands where ``time`` stood; runs and pauses take what they say, and no time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(trial_process, "time", found)
    return found


def _timed(clock: Clock, run_s: float) -> tuple[trial_process._Timed, list[tuple[str, float]]]:
    reports: list[tuple[str, float]] = []

    def run() -> None:
        clock.now_s += run_s

    return trial_process._Timed(run, lambda line: reports.append((line, clock.now_s))), reports


def test_slow_runs_are_told_one_by_one(clock):
    """So that the limit, which starts anew with each report, is one for each run."""
    timed, reports = _timed(clock, run_s=90.0)
    assert timed.samples_ms(4, 0.0) == pytest.approx([90e3] * 4)
    assert reports == [(RAN, 90.0 * number) for number in range(1, 8)]


def test_fast_runs_are_told_once_a_second(clock):
    timed, reports = _timed(clock, run_s=0.01)
    timed.samples_ms(300, 0.0)
    assert [round(when_s) for _, when_s in reports] == [1, 2, 3]


def test_a_pause_comes_before_each_run_and_is_no_part_of_it(clock):
    timed, reports = _timed(clock, run_s=0.002)
    assert timed.samples_ms(5, 0.25) == pytest.approx([2.0] * 5)
    assert clock.slept_s == [0.25] * 8
    assert len(reports) == 2


def test_sporadic_runs_come_beside_those_in_a_row(pristine):
    trial = run_trial(pristine, repeats=4, pause_ms=1)
    assert len(trial.samples_ms) == len(trial.sporadic_ms) == 4
    assert run_trial(pristine).sporadic_ms == run_trial(pristine).samples_ms == ()
