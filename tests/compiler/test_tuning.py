from __future__ import annotations

from collections.abc import Callable

import pytest

from ofa_tvm.compiler import tuning
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.compiler.tuning import remaining_candidates, tune
from ofa_tvm.errors import MeasurementError
from ofa_tvm.measurement.records import KernelRecord
from ofa_tvm.measurement.task_queue import CHUNK_JOBS
from ofa_tvm.space.workload import Workload

MakeBench = Callable[[Callable[[Workload, int], float]], KernelBench]

FAST, SLOW = Workload("pool", 64, 64, 4, 4), Workload("pointwise", 64, 64, 8, 8)
MANY = [Workload("scale", 16 * n, 16 * n, 4, 4) for n in range(1, CHUNK_JOBS + 4)]


def candidates(bench: KernelBench, workload: Workload) -> list:
    return TEMPLATES[workload.kind].candidates(workload, bench.toolchain.machine)


def v_shaped(workload: Workload, number: int) -> float:
    """The fourth candidate is the best one."""
    return (1.0 if workload == FAST else 5.0) + 0.1 * abs(number - 3)


def test_all_candidates_are_measured_best_guess_first(make_bench: MakeBench) -> None:
    bench = make_bench(v_shaped)
    report = tune(bench, [FAST, SLOW, FAST], minutes=10)
    for workload in (FAST, SLOW):
        tried = [r.parameters for r in bench.store.of_type(KernelRecord) if r.workload == workload]
        assert tried == [parameters.to_dict() for parameters in candidates(bench, workload)]
    assert report.kernels == 2
    assert report.candidates == report.measured == len(candidates(bench, FAST)) + len(candidates(bench, SLOW))
    assert remaining_candidates(bench, [FAST, SLOW]) == 0


def test_the_sums_count_each_kernel_as_often_as_it_is_called(make_bench: MakeBench) -> None:
    report = tune(make_bench(v_shaped), [FAST, SLOW, FAST], minutes=10)
    assert report.before_ms == pytest.approx(2 * 1.3 + 5.3)
    assert report.after_ms == pytest.approx(2 * 1.0 + 5.0)


def test_the_best_is_compiled_afterwards(make_bench: MakeBench) -> None:
    bench = make_bench(v_shaped)
    tune(bench, [FAST, SLOW], minutes=10)
    schedules = Schedules(bench.store, bench.target.name, bench.toolchain.machine)
    for workload in (FAST, SLOW):
        assert schedules(workload) == candidates(bench, workload)[3]


def test_after_the_first_round_slow_kernels_go_first(make_bench: MakeBench) -> None:
    bench = make_bench(v_shaped)
    tune(bench, [FAST, FAST, SLOW], minutes=10)
    order = [record.workload for record in bench.store.of_type(KernelRecord)]
    assert order[:4] == [FAST, SLOW, SLOW, FAST]  # 5.3 ms once is more than 1.3 ms twice


def test_no_time_measures_nothing(make_bench: MakeBench) -> None:
    bench = make_bench(v_shaped)
    report = tune(bench, [FAST, SLOW], minutes=0)
    assert (report.measured, report.before_ms, report.after_ms) == (0, 0.0, 0.0)
    assert not bench.timed
    assert report.candidates == remaining_candidates(bench, [FAST, SLOW])


def test_the_first_round_is_finished_whatever_the_time(make_bench: MakeBench) -> None:
    bench = make_bench(v_shaped)
    report = tune(bench, MANY, minutes=1e-9)
    assert report.measured == len(MANY)
    assert set(bench.timed.values()) == {1}
    assert report.before_ms == report.after_ms > 0


def test_a_later_round_ends_after_the_chunk_in_which_time_is_up(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_s = [0.0]
    monkeypatch.setattr(tuning.time, "monotonic", lambda: clock_s[0])

    def script(workload: Workload, number: int) -> float:
        clock_s[0] = 60.0 * number
        return v_shaped(workload, number)

    report = tune(make_bench(script), MANY, minutes=0.5)
    assert report.measured == len(MANY) + CHUNK_JOBS


def test_tuning_goes_on_where_it_stopped(make_bench: MakeBench) -> None:
    bench = make_bench(v_shaped)
    tune(bench, [FAST], minutes=1e-9)
    again = make_bench(lambda workload, number: v_shaped(workload, number + 1))
    report = tune(again, [FAST], minutes=10)
    assert report.measured == len(candidates(bench, FAST)) == again.timed[FAST] + 1
    assert (report.before_ms, report.after_ms) == (pytest.approx(1.3), pytest.approx(1.0))


def test_a_candidate_that_fails_does_not_win(make_bench: MakeBench) -> None:
    def script(workload: Workload, number: int) -> float:
        if number == 3:
            raise MeasurementError("crashed")
        return v_shaped(workload, number)

    report = tune(make_bench(script), [FAST], minutes=10)
    assert report.after_ms == pytest.approx(1.1)
    assert report.measured == report.candidates  # the failure is known, too
