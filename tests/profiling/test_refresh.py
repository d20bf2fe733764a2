"""What the latency predictor makes of what was measured since it was fitted, by deploy or by tune."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.measurement.protocol import Measurement
from ofa_tvm.predictors.latency import LatencyPredictor
from ofa_tvm.profiling.refresh import refreshed, with_measurements
from ofa_tvm.profiling.space_profiler import SpaceProfiler, kernels_to_profile, subnets_to_profile
from ofa_tvm.profiling.subnet_history import SubnetHistory
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.targets import load_target

SPACE = SearchSpace(0.35, 4, (32,))
NEW = subnets_to_profile(SPACE, 30, seed=9)[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[KernelBench]:
    """With all kernels and twelve subnets measured."""
    with open_bench(load_target("null"), tmp_path / "records.jsonl") as bench:
        profiler = SpaceProfiler(SPACE, bench, Supernet(SPACE))
        profiler.measure_kernels(kernels_to_profile(SPACE, SPACE.resolutions), lambda _count: None)
        profiler.measure_subnets(12, 0, lambda _count: None)
        yield bench


def history_of(bench: KernelBench) -> SubnetHistory:
    return SubnetHistory(SPACE, bench.store, bench.toolchain.machine)


def fit(history: SubnetHistory) -> LatencyPredictor:
    measured = history.measured()
    medians_ms = [measurement.median_ms for measurement in measured.values()]
    return LatencyPredictor.fit(SPACE, list(measured), medians_ms, history.schedules.latencies_ms)


def measured_at(history: SubnetHistory, latency_ms: float, drift: float = 0.0) -> Measurement:
    return at(next(iter(history.measured().values())), latency_ms, drift)


def at(like: Measurement, latency_ms: float, drift: float = 0.0) -> Measurement:
    samples_ms = (latency_ms,) * len(like.samples_ms)
    return dataclasses.replace(like, samples_ms=samples_ms, median_ms=latency_ms, min_ms=latency_ms, drift=drift)


def test_without_news_it_is_the_saved_one(bench: KernelBench) -> None:
    said: list[str] = []
    saved = fit(history_of(bench))
    assert refreshed(saved, history_of(bench), said.append) is saved
    assert said == []


def test_subnets_measured_since_are_learnt_from_and_told(bench: KernelBench) -> None:
    said: list[str] = []
    saved = fit(history_of(bench))
    before_ms = float(saved.predict([NEW])[0])
    history_of(bench).record({NEW: measured_at(history_of(bench), 2 * before_ms)})
    learnt = refreshed(saved, history_of(bench), said.append)
    assert learnt.subnets == 13
    assert learnt.predict([NEW])[0] > before_ms
    assert said == ["the latency predictor is fitted anew, to 13 measured subnets; profile had 12"]


def test_a_miss_is_not_repeated(bench: KernelBench) -> None:
    """The very subnet is predicted as measured; a measurement that drifted too much is no such knowledge."""
    history = history_of(bench)
    predictor = fit(history)
    before_ms = float(predictor.predict([NEW])[0])
    history.record({NEW: measured_at(history, 1.1 * before_ms, drift=0.5)})
    assert with_measurements(predictor, history, 0.1).predict([NEW])[0] == pytest.approx(before_ms, rel=0.05)
    history.record({NEW: measured_at(history, 1.1 * before_ms)})
    assert with_measurements(predictor, history, 0.1).predict([NEW])[0] == pytest.approx(1.1 * before_ms)


def test_after_tuning_the_kernels_count_as_tuned(bench: KernelBench) -> None:
    """Measured subnets are of kernels of before, but the model stands."""
    said: list[str] = []
    saved = fit(history_of(bench))
    largest = SPACE.largest()
    slow = max(set(workloads(SPACE, largest)), key=lambda w: saved.kernel_latencies_ms[w])
    now_ms = saved.kernel_latencies_ms[slow]
    record = next(r for r in bench.store.latest_kernels() if r.workload == slow)
    assert record.measurement is not None
    faster = at(record.measurement, now_ms / 2)
    parameters = TEMPLATES[slow.kind].candidates(slow, bench.toolchain.machine)[1].to_dict()
    bench.store.append(record.model_copy(update={"outcome": faster, "parameters": parameters}))
    assert largest not in history_of(bench).measured()
    tuned = refreshed(saved, history_of(bench), said.append)
    assert tuned.subnets == 12
    assert float(tuned.predict([largest])[0]) < float(saved.predict([largest])[0])
    assert len(said) == 1


def test_subnets_of_another_space_are_not_its_own(bench: KernelBench) -> None:
    other = SearchSpace(0.5, 4, (32,))
    history = SubnetHistory(other, bench.store, bench.toolchain.machine)
    assert history.measured() == {}
    assert list(history_of(bench).measured()) == sorted(subnets_to_profile(SPACE, 12, 0))
