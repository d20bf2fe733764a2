"""What is chosen and learnt from latencies of boards of different speeds: the same, whichever measured what."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.templates import Parameters
from ofa_tvm.compiler.tuning import Tuner
from ofa_tvm.measurement.protocol import Measurement
from ofa_tvm.measurement.records import KernelRecord
from ofa_tvm.profiling.space_profiler import SpaceProfiler
from ofa_tvm.space.workload import Workload

WORKLOADS = (Workload("pointwise", 32, 32, 8, 8), Workload("pointwise", 32, 64, 8, 8))
CANDIDATES = [Parameters(tile_pixels=tile) for tile in (1, 2, 4)]
TRUE_MS = (1.2, 1.0, 1.1)
FACTORS = (1.0, 1.5)


@pytest.mark.parametrize("boards", list(itertools.product(range(2), repeat=3)))
@pytest.mark.parametrize("screening", [True, False])
def test_the_same_candidate_wins_whichever_board_measured_which(
    make_bench: Callable[..., KernelBench], boards: tuple[int, ...], screening: bool
):
    bench = make_bench(lambda _workload, _number: 1.0)
    for workload, turned in zip(WORKLOADS, (0, 1), strict=True):  # each board has measured something
        for parameters, true_ms, board in zip(CANDIDATES, TRUE_MS, boards, strict=True):
            bench.store.append(record(workload, parameters, true_ms, (board + turned) % 2, screening))
    searches = Tuner(bench, dict.fromkeys(WORKLOADS, 1.0)).searches
    for workload in WORKLOADS:
        found = [searches.latency_ms(workload, parameters) for parameters in CANDIDATES]
        assert found == pytest.approx([1.5 * true_ms for true_ms in TRUE_MS])
        assert searches.latency_ms(workload) == min(found)
    learnt = SpaceProfiler(None, bench, None).measured_kernels()
    assert learnt == ({} if screening else pytest.approx(dict.fromkeys(WORKLOADS, 1.5)))


def test_what_is_known_of_a_board_later_counts_for_what_was_measured_before(make_bench: Callable[..., KernelBench]):
    bench = make_bench(lambda _workload, _number: 1.0)
    bench.store.append(record(WORKLOADS[0], CANDIDATES[0], 1.0, board=0))
    searches = Tuner(bench, dict.fromkeys(WORKLOADS, 1.0)).searches
    assert searches.measured_ms(WORKLOADS[0]) == 1.0
    bench.store.append(record(WORKLOADS[0], CANDIDATES[1], 0.9, board=1))
    searches.refresh()
    assert searches.latency_ms(WORKLOADS[0], CANDIDATES[0]) == pytest.approx(1.5)
    assert searches.measured_ms(WORKLOADS[0]) == pytest.approx(0.9 * 1.5)


def record(workload: Workload, parameters: Parameters, true_ms: float, board: int, screening: bool = False):
    latency_ms, reference_ms = true_ms * FACTORS[board], 0.01 * FACTORS[board]
    outcome = Measurement(
        (latency_ms,), latency_ms, latency_ms, 0.0, 0.0, reference_ms, f"board{board}", False, "2026-01-01", {}
    )
    return KernelRecord(
        target="null", workload=workload, parameters=parameters.to_dict(), screening=screening, outcome=outcome
    )
