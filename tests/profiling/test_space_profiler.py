from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.errors import CompileError, MeasurementError
from ofa_tvm.lowering.lower import lower
from ofa_tvm.measurement.job import SubnetJob
from ofa_tvm.measurement.null_device import SUBNET_OVERHEAD_MS, kernel_ms
from ofa_tvm.measurement.protocol import MeasurementFailure, failed_on, not_built
from ofa_tvm.measurement.records import KernelRecord, SubnetRecord, read_records
from ofa_tvm.measurement.task_queue import CHUNK_JOBS
from ofa_tvm.profiling import space_profiler, subnet_builds
from ofa_tvm.profiling.space_profiler import SpaceProfiler, kernels_to_profile, subnets_to_profile
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.targets import load_target

Open = Callable[[], AbstractContextManager[SpaceProfiler]]

SPACE = SearchSpace(0.35, 4, (32, 48))
SUBNETS = 12


@pytest.fixture(scope="module")
def kernels() -> list[Workload]:
    return kernels_to_profile(SPACE, [32])[:70]


@pytest.fixture(scope="module")
def architectures() -> list[Architecture]:
    return subnets_to_profile(SPACE, SUBNETS, seed=1)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return Supernet(SPACE)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


@pytest.fixture
def open_profiler(records: Path, supernet: Supernet) -> Open:
    """Another run of the command: a new bench on the same file."""

    @contextmanager
    def open_again() -> Iterator[SpaceProfiler]:
        with open_bench(load_target("null"), records) as bench:
            yield SpaceProfiler(SPACE, bench, supernet)

    return open_again


def interrupt_after(count: int) -> Callable[[int], None]:
    """A progress callback during which somebody types Ctrl-C, once so many are recorded."""
    left = [count]

    def on_done(number: int) -> None:
        left[0] -= number
        if left[0] <= 0:
            raise KeyboardInterrupt

    return on_done


def ignore(_count: int) -> None:
    pass


def test_every_kernel_of_every_subnet_is_profiled() -> None:
    kernels = kernels_to_profile(SPACE, SPACE.resolutions)
    assert len(kernels) == len(set(kernels))
    for architecture in subnets_to_profile(SPACE, 40, seed=2):
        assert set(workloads(SPACE, architecture)) <= set(kernels)


def test_subnets_are_distinct_and_those_of_the_seed() -> None:
    chosen = subnets_to_profile(SPACE, 30, seed=3)
    assert len(set(chosen)) == 30
    assert chosen[:2] == [SPACE.smallest(), SPACE.largest()]
    assert chosen == subnets_to_profile(SPACE, 30, seed=3) != subnets_to_profile(SPACE, 30, seed=4)
    assert subnets_to_profile(SPACE, 10, seed=3) == chosen[:10]


@pytest.mark.parametrize("count", [1, 16, 17, 64, 65])
def test_interrupted_kernels_go_on_where_they_stopped(
    open_profiler: Open, records: Path, kernels: list[Workload], count: int
) -> None:
    with open_profiler() as profiler, pytest.raises(KeyboardInterrupt):
        profiler.measure_kernels(kernels, interrupt_after(count))
    kept = len(read_records(records))
    assert count <= kept < count + CHUNK_JOBS  # all that was measured
    with open_profiler() as profiler:
        assert profiler.kernels_left(kernels) == kernels[kept:]
        counts: list[int] = []
        profiler.measure_kernels(kernels, counts.append)
        assert sum(counts) == len(kernels) - kept
        assert profiler.kernels_left(kernels) == []
        assert profiler.measured_kernels() == {kernel: pytest.approx(kernel_ms(kernel)) for kernel in kernels}
    assert Counter(r.workload for r in read_records(records) if isinstance(r, KernelRecord)) == Counter(kernels)


@pytest.mark.parametrize("count", [1, 8, 9])
def test_interrupted_subnets_go_on_where_they_stopped(
    open_profiler: Open, records: Path, architectures: list[Architecture], count: int
) -> None:
    with open_profiler() as profiler, pytest.raises(KeyboardInterrupt):
        profiler.measure_subnets(SUBNETS, 1, interrupt_after(count))
    with open_profiler() as profiler:
        left = profiler.subnets_left(architectures)
        assert left == architectures[len(architectures) - len(left) :]
        assert len(architectures) - len(left) >= count
        assert profiler.subnets_measured(SUBNETS, 1) == len(architectures) - len(left)
        measured = profiler.measure_subnets(SUBNETS, 1, ignore)
    assert list(measured) == architectures
    for architecture, measurement in measured.items():
        expected = SUBNET_OVERHEAD_MS + sum(kernel_ms(kernel) for kernel in workloads(SPACE, architecture))
        assert measurement.median_ms == pytest.approx(expected)
    subnets = [record for record in read_records(records) if isinstance(record, SubnetRecord)]
    recorded = [Architecture.from_dict(record.architecture) for record in subnets]
    assert Counter(recorded) == Counter(architectures)


def test_a_subnet_is_measured_again_once_a_kernel_of_it_is_tuned(
    open_profiler: Open, architectures: list[Architecture], records: Path
) -> None:
    small, large = architectures[:2]
    with open_profiler() as profiler:
        assert list(profiler.measure_subnets(2, 1, ignore)) == [small, large]
    tuned = next(kernel for kernel in workloads(SPACE, large) if kernel not in workloads(SPACE, small))
    with open_bench(load_target("null"), records) as bench:
        bench.measure({tuned: TEMPLATES[tuned.kind].candidates(tuned, bench.toolchain.machine)[1]})
    with open_profiler() as profiler:
        assert profiler.subnets_left([small, large]) == [large]
        assert list(profiler.history.measured()) == [small]


class Failing:
    """Builds subnets for null, some of which fail: they can't be built, or fail on the device."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: dict[Architecture, MeasurementFailure]) -> None:
        self.failures = failures
        self.tried: Counter[Architecture] = Counter()
        build = space_profiler.build_subnets

        def build_some(bench: Any, supernet: Any, chunk: Any, schedule_of: Any) -> list[Any]:
            self.tried.update(chunk)
            return [
                self.failures.get(architecture, job)
                for architecture, job in zip(chunk, build(bench, supernet, chunk, schedule_of), strict=True)
            ]

        monkeypatch.setattr(space_profiler, "build_subnets", build_some)


def test_a_subnet_that_can_not_be_built_is_recorded_and_another_takes_its_place(
    open_profiler: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifteen = subnets_to_profile(SPACE, 15, seed=1)
    broken = fifteen[3]
    builds = Failing(monkeypatch, {broken: not_built(CompileError("no such operator"))})
    counts: list[int] = []
    for _ in range(2):
        with open_profiler() as profiler:
            measured = profiler.measure_subnets(SUBNETS, 1, counts.append)
        assert list(measured) == [a for a in fifteen[: SUBNETS + 1] if a != broken]
    assert sum(counts) == SUBNETS
    assert set(builds.tried.values()) == {1}  # a later run does not try it again


def test_a_subnet_that_failed_on_the_device_is_tried_once_more_in_a_later_run(
    open_profiler: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    twelve = subnets_to_profile(SPACE, 12, seed=1)
    failure = failed_on("board", MeasurementError("timed out"))
    builds = Failing(monkeypatch, {twelve[3]: failure, twelve[5]: failure})
    with open_profiler() as profiler:
        assert len(profiler.measure_subnets(SUBNETS, 1, ignore)) == SUBNETS
    del builds.failures[twelve[5]]
    for _ in range(2):
        with open_profiler() as profiler:
            measured = profiler.measure_subnets(SUBNETS, 1, ignore)
        assert twelve[5] in measured
        assert twelve[3] not in measured
    assert (builds.tried[twelve[3]], builds.tried[twelve[5]]) == (2, 2)


def test_a_build_failure_of_other_versions_is_tried_again(open_profiler: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = subnets_to_profile(SPACE, 12, seed=1)[3]
    failure = dataclasses.replace(not_built(CompileError("no such operator")), versions={"apache-tvm": "0.26"})
    builds = Failing(monkeypatch, {broken: failure})
    with open_profiler() as profiler:
        profiler.measure_subnets(SUBNETS, 1, ignore)
    builds.failures.clear()
    with open_profiler() as profiler:
        assert broken in profiler.measure_subnets(SUBNETS, 1, ignore)


def test_if_no_subnet_works_it_is_not_the_subnets_and_nothing_is_recorded(
    open_profiler: Open, monkeypatch: pytest.MonkeyPatch, records: Path
) -> None:
    failure = not_built(CompileError("g++ is not installed"))
    Failing(monkeypatch, dict.fromkeys(subnets_to_profile(SPACE, 30, seed=1), failure))
    with open_profiler() as profiler, pytest.raises(MeasurementError, match=r"none of the first \d+ .* g\+\+ is not"):
        profiler.measure_subnets(SUBNETS, 1, ignore)
    assert not any(isinstance(record, SubnetRecord) for record in read_records(records))


@pytest.mark.slow
def test_subnets_on_this_host_compute_what_pytorch_does(
    records: Path, supernet: Supernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but one, which can't be lowered, and one that computes something else."""
    chosen = subnets_to_profile(SPACE, 4, seed=1)

    def lower_some(subnet: Any, image: Any) -> Any:
        lowered = lower(subnet, image)
        blocks = len(list(subnet.modules()))
        if blocks == sizes[1]:
            raise CompileError("no such operator")
        return dataclasses.replace(lowered, sample_output=lowered.sample_output + (blocks == sizes[2]))

    sizes = [len(list(supernet.extract(architecture).modules())) for architecture in chosen]
    assert len(set(sizes)) == len(sizes)
    monkeypatch.setattr(subnet_builds, "lower", lower_some)
    target = load_target("local")
    quick = target.measurement.model_copy(update={"repeats": 2, "min_repeat_ms": 0.1, "max_drift": 1e6})
    with open_bench(target.model_copy(update={"measurement": quick}), records) as bench:
        profiler = SpaceProfiler(SPACE, bench, supernet)
        first, lowering, wrong, last = subnet_builds.build_subnets(bench, supernet, chosen, profiler.history.schedules)
        assert isinstance(first, SubnetJob)
        assert isinstance(last, SubnetJob)
        assert isinstance(lowering, MeasurementFailure)
        assert lowering.error == "no such operator"
        assert isinstance(wrong, MeasurementFailure)
        assert "relative error" in wrong.error
