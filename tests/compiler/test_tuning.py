from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from ofa_tvm.compiler import kernel_bench, tuning
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.compiler.tuning import Tuner, tune
from ofa_tvm.compiler.tuning_search import FINALISTS, SEEDED, TuningSettings, can_teach, closest
from ofa_tvm.compiler.tuning_status import expected_ms, tuning_status
from ofa_tvm.errors import MeasurementError
from ofa_tvm.measurement.records import KernelRecord
from ofa_tvm.measurement.task_queue import CHUNK_JOBS
from ofa_tvm.space.workload import Workload

MakeBench = Callable[[Callable[[Workload, int], float]], KernelBench]

FAST, SLOW = Workload("depthwise", 64, 64, 4, 4, 3), Workload("pointwise", 64, 64, 8, 8)
LARGER = Workload("pointwise", 64, 64, 12, 12, activation="relu")
MANY = [Workload("scale", 16 * n, 16 * n, 4, 4) for n in range(1, CHUNK_JOBS + 4)]


def candidates(bench: KernelBench, workload: Workload) -> list[Parameters]:
    return TEMPLATES[workload.kind].candidates(workload, bench.toolchain.machine)


def records(bench: KernelBench, workload: Workload, screening: bool) -> list[Parameters]:
    """What was tried of a kernel, in order."""
    found = [r for r in bench.store.of_type(KernelRecord) if r.workload == workload and r.screening == screening]
    return [Parameters.from_dict(record.parameters) for record in found]


def schedules(bench: KernelBench) -> Schedules:
    return Schedules(bench.store, bench.toolchain.machine)


def base_ms(workload: Workload) -> float:
    return 1.0 if workload == FAST else 5.0


def v_shaped(workload: Workload, number: int) -> float:
    """The fourth candidate is the best one: all are screened, and then the fourth is the first to be measured."""
    return base_ms(workload) + 0.1 * abs(number - 3)


def then(measured: Callable[[int], float], bench_candidates: dict[Workload, int]) -> Callable[[Workload, int], float]:
    """v-shaped as screened; as measured, what `measured` gives for the first, second and third finalist."""

    def script(workload: Workload, number: int) -> float:
        count = bench_candidates[workload]
        return v_shaped(workload, number) if number < count else base_ms(workload) + measured(number - count)

    return script


@pytest.fixture
def counts(make_bench: MakeBench) -> dict[Workload, int]:
    bench = make_bench(v_shaped)
    found = {workload: len(candidates(bench, workload)) for workload in (FAST, SLOW, LARGER)}
    assert min(found.values()) > SEEDED
    return found


def test_all_are_screened_best_guess_first_and_the_best_are_measured(
    make_bench: MakeBench, counts: dict[Workload, int]
) -> None:
    bench = make_bench(then(lambda rank: 0.1 * rank, counts))
    report = tune(bench, [FAST, SLOW, FAST], minutes=10)
    for workload in (FAST, SLOW):
        offered = candidates(bench, workload)
        assert records(bench, workload, screening=True) == offered
        assert records(bench, workload, screening=False) == [offered[3], offered[2], offered[4]]
        assert schedules(bench)(workload) == offered[3]
    assert report.kernels == 2
    assert report.candidates == report.measured == counts[FAST] + counts[SLOW]
    assert report.before_ms == pytest.approx(2 * 1.3 + 5.3)
    assert report.after_ms == pytest.approx(2 * 1.0 + 5.0)


def test_a_lucky_screening_does_not_win(make_bench: MakeBench, counts: dict[Workload, int]) -> None:
    bench = make_bench(then(lambda rank: 1.0 - 0.1 * rank, counts))
    tune(bench, [FAST], minutes=10)
    assert schedules(bench)(FAST) == candidates(bench, FAST)[4]  # the third finalist
    assert schedules(bench).latencies_ms[FAST] == pytest.approx(1.8)  # as measured, though others were screened at 1.0


def test_screening_alone_chooses_nothing(make_bench: MakeBench) -> None:
    bench = make_bench(v_shaped)
    for parameters in candidates(bench, FAST):
        bench.screen({FAST: parameters})
    assert schedules(bench)(FAST) == candidates(bench, FAST)[0]
    assert schedules(bench).latencies_ms == {}


def test_what_takes_most_of_the_time_comes_first(make_bench: MakeBench) -> None:
    bench = make_bench(v_shaped)
    Tuner(bench, {FAST: 1.0, SLOW: 0.001}).run()
    assert next(iter(bench.store)).workload == FAST
    bench = make_bench(v_shaped)
    assert Tuner(bench, {FAST: 1.0, SLOW: 1.0}).complete == {FAST, SLOW}


def test_who_can_teach_whom() -> None:
    assert can_teach(SLOW, LARGER)
    for other in (
        replace(SLOW, kind="depthwise", kernel_size=3),
        replace(SLOW, stride=2),
        replace(SLOW, scaled=True),
        replace(SLOW, height=64, width=64),
        replace(SLOW, in_channels=1024, out_channels=1024),
    ):
        assert not can_teach(SLOW, other)


def test_another_size_shows_the_way(make_bench: MakeBench, counts: dict[Workload, int]) -> None:
    bench = make_bench(then(lambda rank: 0.1 * rank, counts))
    tuner = Tuner(bench, {SLOW: 1.0, LARGER: 0.1})
    tuner.run()
    winner = schedules(bench)(SLOW)
    assert records(bench, SLOW, screening=True) == candidates(bench, SLOW)
    tried = records(bench, LARGER, screening=True)
    assert len(tried) == SEEDED < counts[LARGER]
    assert candidates(bench, LARGER)[0] in tried[:2]  # the cost model's pick, to see the gain
    alike = {(p.tile_blocks, p.partial_sums, p.loop_order) for p in tried}
    assert (winner.tile_blocks, winner.partial_sums, winner.loop_order) in alike
    assert tuner.complete == {SLOW, LARGER}
    assert len(records(bench, LARGER, screening=False)) == FINALISTS


def test_another_size_shows_the_way_though_both_were_profiled(
    make_bench: MakeBench, counts: dict[Workload, int]
) -> None:
    script = then(lambda rank: 0.1 * rank, counts)
    bench = make_bench(lambda workload, number: 9.0 if number == 0 else script(workload, number))
    bench.measure({workload: candidates(bench, workload)[0] for workload in (SLOW, LARGER)})  # as profile does
    tuner = Tuner(bench, {SLOW: 1.0, LARGER: 0.1})
    tuner.run()
    assert tuner.complete == {SLOW, LARGER}
    offered, tried = candidates(bench, LARGER), records(bench, LARGER, screening=True)
    assert len(tried) == SEEDED - 1  # the cost model's pick was measured before
    shown = {closest(seed, offered) for seed in records(bench, SLOW, screening=False)[1:]}
    assert shown - {None, offered[0]} <= {*tried}
    assert tried != offered[1:SEEDED]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [(TuningSettings(exhaustive=True), None), (TuningSettings(candidates=4), 4)],
)
def test_how_thorough_a_search_is_can_be_said(
    make_bench: MakeBench, counts: dict[Workload, int], settings: TuningSettings, expected: int | None
) -> None:
    bench = make_bench(v_shaped)
    Tuner(bench, {SLOW: 1.0, LARGER: 0.1}, settings).run()
    for workload in (SLOW, LARGER):
        assert len(records(bench, workload, screening=True)) == (expected or counts[workload])


def test_no_time_measures_nothing(make_bench: MakeBench) -> None:
    bench = make_bench(v_shaped)
    report = tune(bench, [FAST, SLOW], minutes=0)
    assert (report.measured, report.before_ms, report.after_ms) == (0, 0.0, 0.0)
    assert not bench.timed
    assert report.candidates > 0


def test_it_ends_after_the_chunk_in_which_time_is_up(make_bench: MakeBench) -> None:
    deadline_s = time.monotonic() + 2.0

    def script(workload: Workload, number: int) -> float:
        time.sleep(max(0.0, deadline_s + 0.01 - time.monotonic()))
        return v_shaped(workload, number)

    bench = make_bench(script)
    Tuner(bench, dict.fromkeys(MANY, 1.0), TuningSettings(exhaustive=True)).run(deadline_s)
    assert sum(bench.timed.values()) == len(bench.store) == CHUNK_JOBS


class JobClock:
    """A clock in which a job takes a second, and nothing else takes any time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, script: Callable[[Workload, int], float]) -> None:
        self.now_s = 0.0
        self.timed_script = script
        for module in (tuning, kernel_bench):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now_s

    def script(self, workload: Workload, number: int) -> float:
        self.now_s += 1
        return self.timed_script(workload, number)


def test_time_is_kept_to_measure_what_was_screened(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 20 s two kernels at once get 8 screenings each, until 4 s are left for their two best."""
    clock = JobClock(monkeypatch, lambda workload, number: v_shaped(workload, number if number < 8 else number - 5))
    bench = make_bench(clock.script)
    Tuner(bench, {FAST: 1.0, SLOW: 1.0}).run(deadline_s=20.0)
    for workload in (FAST, SLOW):
        offered = candidates(bench, workload)
        assert records(bench, workload, screening=True) == offered[:8]
        assert records(bench, workload, screening=False) == [offered[3], offered[2]]
        assert schedules(bench)(workload) == offered[3]
    assert clock.now_s == 20.0


def test_what_was_only_screened_is_no_gain(make_bench: MakeBench) -> None:
    bench = make_bench(v_shaped)
    for parameters in candidates(bench, FAST)[:4]:
        bench.screen({FAST: parameters})
    report = tune(bench, [FAST], minutes=0)
    assert report.before_ms == report.after_ms == pytest.approx(1.3)
    bench.measure({FAST: candidates(bench, FAST)[3]})
    report = tune(bench, [FAST], minutes=0)
    assert (report.before_ms, report.after_ms) == (pytest.approx(1.3), pytest.approx(1.1))


def test_a_default_that_fails_as_measured_has_no_latency(make_bench: MakeBench) -> None:
    def script(_workload: Workload, number: int) -> float:
        if number in (2, 3):
            raise MeasurementError("wrong numbers")
        return 1.0 + number

    bench = make_bench(script)
    default, other = candidates(bench, FAST)[:2]
    for parameters in (default, other):
        bench.screen({FAST: parameters})
    bench.measure({FAST: default})
    bench.measure({FAST: other})
    searches = Tuner(bench, {FAST: 1.0}).searches
    assert searches.latency_ms(FAST, default) is None
    assert searches.latency_ms(FAST) == searches.measured_ms(FAST) == 5.0


def test_kernels_that_others_completed_do_not_end_the_run(
    make_bench: MakeBench, counts: dict[Workload, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LARGER has all it needs once SLOW is searched; the one that waited for SLOW, too, is to be searched."""
    smaller = replace(SLOW, height=4, width=4)
    monkeypatch.setattr(tuning, "KERNELS_A_LIBRARY", 1)
    bench = make_bench(v_shaped)
    for parameters in candidates(bench, LARGER)[:SEEDED]:
        bench.measure({LARGER: parameters})
    tuner = Tuner(bench, {SLOW: 100.0, LARGER: 1.0, smaller: 0.001})
    assert tuner.complete == set()
    tuner.run()
    assert tuner.complete == {SLOW, LARGER, smaller}


@pytest.mark.parametrize("interrupted_after", [1, 5, 20])
def test_tuning_goes_on_where_it_stopped(
    make_bench: MakeBench, counts: dict[Workload, int], interrupted_after: int
) -> None:
    script = then(lambda rank: 0.1 * rank, counts)
    left = [interrupted_after]

    def interrupt(count: int) -> None:
        left[0] -= count
        if left[0] <= 0:
            raise KeyboardInterrupt

    bench = make_bench(script)
    with pytest.raises(KeyboardInterrupt):
        Tuner(bench, {FAST: 1}).run(on_done=interrupt)
    done = bench.timed[FAST]
    again = make_bench(lambda workload, number: script(workload, number + done))
    tune(again, [FAST], minutes=10)
    assert again.timed[FAST] == counts[FAST] + FINALISTS - done
    assert schedules(again)(FAST) == candidates(again, FAST)[3]
    tuned = make_bench(v_shaped)
    tune(tuned, [FAST], minutes=10)
    assert not tuned.timed


def test_a_candidate_that_fails_does_not_win(make_bench: MakeBench, counts: dict[Workload, int]) -> None:
    """The fourth as screened; the third, then the best, as measured, which is when wrong numbers are found."""
    count = counts[FAST]

    def script(_workload: Workload, number: int) -> float:
        if number in (3, 4, count + 1, count + 2):  # a job that fails is tried once more
            raise MeasurementError("crashed")
        if number > count:
            return 1.0 + 0.1 * (number - count - 3)
        return v_shaped(FAST, number if number < 3 else number - 1)

    bench = make_bench(script)
    report = tune(bench, [FAST], minutes=10)
    offered = candidates(bench, FAST)
    assert report.measured == report.candidates  # the failures are known, too
    assert records(bench, FAST, screening=False) == [offered[2], offered[4], offered[1], offered[5]]
    assert schedules(bench)(FAST) == offered[4]
    assert tuning_status(Tuner(bench, {FAST: 1.0}).searches, {FAST: 1.0}).failed == 2


def test_a_kernel_of_which_all_candidates_fail_is_over(make_bench: MakeBench) -> None:
    def fail(_workload: Workload, _number: int) -> float:
        raise MeasurementError("crashed")

    bench = make_bench(fail)
    tuner = Tuner(bench, {FAST: 1.0})
    tuner.run()
    assert tuner.complete == {FAST}
    assert schedules(bench)(FAST) == candidates(bench, FAST)[0]
    status = tuning_status(tuner.searches, tuner.uses)
    assert (status.complete, status.failed, status.gain, status.covered) == (1, status.known, None, 0.0)


def test_what_the_template_offers_no_more_does_not_count(make_bench: MakeBench, counts: dict[Workload, int]) -> None:
    bench = make_bench(v_shaped)
    offered = candidates(bench, FAST)
    former = [replace(p, tile_pixels=1000 + n) for n, p in enumerate(offered)]
    for parameters in former:
        bench.screen({FAST: parameters})
    (other,) = bench.store.of_type(KernelRecord)[-1:]
    bench.store.append(other.model_copy(update={"parameters": {"of another": "version"}}))
    searches = Tuner(bench, {FAST: 1.0}).searches
    assert (searches.tried(FAST), searches.failed(FAST), searches.open(FAST)) == (0, 0, counts[FAST])
    tune(bench, [FAST], minutes=10)
    tried = [r.parameters for r in bench.store.of_type(KernelRecord) if r.screening]
    assert tried == [*(p.to_dict() for p in former), {"of another": "version"}, *(p.to_dict() for p in offered)]


def test_the_status_counts_time(make_bench: MakeBench, counts: dict[Workload, int]) -> None:
    bench = make_bench(then(lambda rank: 0.1 * rank, counts))
    uses = {FAST: 2.0, SLOW: 1.0}
    before = tuning_status(Tuner(bench, uses).searches, uses)
    assert (before.kernels, before.complete, before.known, before.covered, before.gain) == (2, 0, 0, 0.0, None)
    assert before.open == counts[FAST] + counts[SLOW]
    tune(bench, [FAST], minutes=10)
    tuner = Tuner(bench, uses)
    half = tuning_status(tuner.searches, uses)
    assert (half.complete, half.known, half.open) == (1, counts[FAST], counts[SLOW])
    assert half.gain == pytest.approx(1.3)
    latencies_ms = expected_ms(tuner.searches, uses)
    assert latencies_ms[FAST] == pytest.approx(1.0)
    assert half.covered == pytest.approx(2.0 / (2.0 + latencies_ms[SLOW]))
