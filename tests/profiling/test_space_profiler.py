from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from ofa_tvm.compiler.kernel_bench import open_bench
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.measurement.null_device import SUBNET_OVERHEAD_MS, kernel_ms
from ofa_tvm.measurement.records import KernelRecord, SubnetRecord, read_records
from ofa_tvm.measurement.task_queue import CHUNK_JOBS
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
        profiler.measure_subnets(architectures, interrupt_after(count))
    with open_profiler() as profiler:
        left = profiler.subnets_left(architectures)
        assert left == architectures[len(architectures) - len(left) :]
        assert len(architectures) - len(left) >= count
        profiler.measure_subnets(architectures, ignore)
        measured = profiler.measured_subnets(architectures)
    assert list(measured) == architectures
    for architecture, latency_ms in measured.items():
        expected = SUBNET_OVERHEAD_MS + sum(kernel_ms(kernel) for kernel in workloads(SPACE, architecture))
        assert latency_ms == pytest.approx(expected)
    subnets = [record for record in read_records(records) if isinstance(record, SubnetRecord)]
    recorded = [Architecture.from_dict(record.architecture) for record in subnets]
    assert Counter(recorded) == Counter(architectures)


def test_a_subnet_is_measured_again_once_a_kernel_of_it_is_tuned(
    open_profiler: Open, architectures: list[Architecture], records: Path
) -> None:
    small, large = architectures[:2]
    with open_profiler() as profiler:
        profiler.measure_subnets([small, large], ignore)
    tuned = next(kernel for kernel in workloads(SPACE, large) if kernel not in workloads(SPACE, small))
    with open_bench(load_target("null"), records) as bench:
        bench.measure({tuned: TEMPLATES[tuned.kind].candidates(tuned, bench.toolchain.machine)[1]})
    with open_profiler() as profiler:
        assert profiler.subnets_left([small, large]) == [large]
        assert list(profiler.measured_subnets([small, large])) == [small]


@pytest.mark.slow
def test_subnets_on_this_host_compute_what_pytorch_does(records: Path, supernet: Supernet) -> None:
    chosen = subnets_to_profile(SearchSpace(0.35, 4, (32,)), 2, seed=1)
    target = load_target("local")
    quick = target.measurement.model_copy(update={"repeats": 2, "min_repeat_ms": 0.1, "max_drift": 1e6})
    with open_bench(target.model_copy(update={"measurement": quick}), records) as bench:
        profiler = SpaceProfiler(SPACE, bench, supernet)
        profiler.measure_subnets(chosen, ignore)  # raises if outputs differ
        assert list(profiler.measured_subnets(chosen)) == chosen
