from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.measurement.identity import TargetIdentity
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure
from ofa_tvm.measurement.records import KernelRecord, RecordStore
from ofa_tvm.space.workload import Workload

Record = Callable[..., None]

BOARD = TargetIdentity("board", {"threads": 2})
WORKLOAD, OTHER = Workload("pointwise", 32, 32, 8, 8), Workload("pool", 32, 32, 8, 8)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "records.jsonl", BOARD)


@pytest.fixture
def record(store: RecordStore) -> Record:
    """Append a kernel's latency, None for a failure."""

    def append(parameters: Parameters, latency_ms: float | None, **how: bool) -> None:
        about = {"device": "board", "timestamp": "2026-01-01T00:00:00+00:00", "versions": {}}
        outcome = (
            MeasurementFailure(error="crashed", **about)
            if latency_ms is None
            else Measurement(
                samples_ms=(latency_ms,),
                median_ms=latency_ms,
                min_ms=latency_ms,
                spread=0.0,
                drift=0.0,
                reference_ms=1.0,
                emulated=False,
                **about,
            )
        )
        store.append(
            KernelRecord(target=BOARD.name, workload=WORKLOAD, parameters=parameters.to_dict(), outcome=outcome, **how)
        )

    return append


def test_without_records_the_cost_model_chooses(store: RecordStore, machine: Machine) -> None:
    schedules = Schedules(store, machine)
    for workload in (WORKLOAD, OTHER):
        assert schedules(workload) == TEMPLATES[workload.kind].default(workload, machine)
    assert schedules.latencies_ms == {}


def test_the_fastest_measured_wins(store: RecordStore, machine: Machine, record: Record) -> None:
    for size, latency_ms in ((1, 3.0), (2, 1.0), (4, 2.0)):
        record(Parameters(tile_pixels=size), latency_ms)
    schedules = Schedules(store, machine)
    assert schedules(WORKLOAD) == Parameters(tile_pixels=2)
    assert schedules.latencies_ms == {WORKLOAD: 1.0}
    assert schedules(OTHER) == TEMPLATES["pool"].default(OTHER, machine)


def test_failures_say_nothing(store: RecordStore, machine: Machine, record: Record) -> None:
    record(Parameters(tile_pixels=1), None)
    schedules = Schedules(store, machine)
    assert schedules(WORKLOAD) == TEMPLATES["pointwise"].default(WORKLOAD, machine)
    assert schedules.latencies_ms == {}
    record(Parameters(tile_pixels=4), 5.0)
    assert Schedules(store, machine)(WORKLOAD) == Parameters(tile_pixels=4)


def test_the_digest_is_that_of_the_kernels(store: RecordStore, machine: Machine, record: Record) -> None:
    untuned = Schedules(store, machine)
    assert untuned.digest([WORKLOAD, OTHER]) == untuned.digest([OTHER, WORKLOAD, OTHER])
    assert untuned.digest([WORKLOAD]) != untuned.digest([OTHER])
    default = TEMPLATES["pointwise"].default(WORKLOAD, machine)
    record(default, 2.0)
    confirmed = Schedules(store, machine)
    assert confirmed.digest([WORKLOAD, OTHER]) == untuned.digest([WORKLOAD, OTHER])
    record(Parameters(tile_pixels=3, tile_blocks=2), 1.0)
    tuned = Schedules(store, machine)
    assert tuned.digest([WORKLOAD, OTHER]) != untuned.digest([WORKLOAD, OTHER])
    assert tuned.digest([OTHER]) == untuned.digest([OTHER])


@pytest.mark.parametrize("today", [TargetIdentity("board", {"threads": 1}), TargetIdentity("another", BOARD.settings)])
def test_other_targets_and_other_settings_say_nothing(
    store: RecordStore, machine: Machine, record: Record, today: TargetIdentity
) -> None:
    record(Parameters(tile_pixels=2), 0.1)
    record(TEMPLATES["pointwise"].default(WORKLOAD, machine), None)
    schedules = Schedules(RecordStore(store.path, today), machine)
    assert schedules(WORKLOAD) == TEMPLATES["pointwise"].default(WORKLOAD, machine)
    assert schedules.latencies_ms == {}


def test_a_digest_does_not_change_with_a_parameter_at_its_default(store: RecordStore, machine: Machine) -> None:
    assert Parameters().to_dict() == {}
    assert Parameters(tile_pixels=2, loop_order="pixels").to_dict() == {"tile_pixels": 2, "loop_order": "pixels"}
    assert Parameters.from_dict({"tile_pixels": 2, "partial_sums": 1}) == Parameters(tile_pixels=2)


@pytest.mark.parametrize(("old", "new"), [("tile_pixels", "tile_depth"), ('"tile_pixels":2', '"tile_pixels":"2"')])
def test_parameters_of_another_version_say_nothing(
    store: RecordStore, machine: Machine, record: Record, old: str, new: str
) -> None:
    record(Parameters(tile_pixels=2), 1.0)
    store.path.write_text(store.path.read_text().replace(old, new))
    schedules = Schedules(RecordStore(store.path, BOARD), machine)
    assert schedules(WORKLOAD) == TEMPLATES[WORKLOAD.kind].default(WORKLOAD, machine)
    assert schedules.latencies_ms == {}


def test_screening_decides_nothing(store: RecordStore, machine: Machine, record: Record) -> None:
    record(Parameters(tile_pixels=1), 0.1, screening=True)
    assert Schedules(store, machine).latencies_ms == {}
    record(Parameters(tile_pixels=2), 3.0)
    assert Schedules(store, machine)(WORKLOAD) == Parameters(tile_pixels=2)


def test_kernels_with_cold_weights_are_compared_with_their_like(
    store: RecordStore, machine: Machine, record: Record
) -> None:
    record(Parameters(tile_pixels=1), 1.0)
    for size, latency_ms in ((2, 3.0), (4, 2.0)):
        record(Parameters(tile_pixels=size), latency_ms, cold_weights=True)
    schedules = Schedules(store, machine)
    assert schedules(WORKLOAD) == Parameters(tile_pixels=4)
    assert schedules.latencies_ms == {WORKLOAD: 2.0}


def test_cold_weights_or_not_is_as_measured_last(store: RecordStore, machine: Machine, record: Record) -> None:
    """What is measured now, by the target's caches; both kinds are there where somebody has corrected these."""
    record(Parameters(tile_pixels=1), 1.0, cold_weights=True)
    for size, latency_ms in ((2, 3.0), (4, 2.0)):
        record(Parameters(tile_pixels=size), latency_ms)
    schedules = Schedules(store, machine)
    assert schedules(WORKLOAD) == Parameters(tile_pixels=4)
    assert schedules.latencies_ms == {WORKLOAD: 2.0}


@pytest.mark.parametrize("screening", [True, False])
def test_what_failed_is_not_compiled_with_though_the_model_prefers_it(
    store: RecordStore, machine: Machine, record: Record, screening: bool
) -> None:
    offered = TEMPLATES[WORKLOAD.kind].candidates(WORKLOAD, machine)
    for parameters in (offered[0], offered[2]):
        record(parameters, None, screening=screening)
    assert Schedules(store, machine)(WORKLOAD) == offered[1]
    for parameters in offered:
        record(parameters, None, screening=screening)
    assert Schedules(store, machine)(WORKLOAD) == offered[0]  # none is known to work


def test_what_failed_since_is_not_compiled_with(store: RecordStore, machine: Machine, record: Record) -> None:
    record(Parameters(tile_pixels=1), 1.0)
    record(Parameters(tile_pixels=2), 2.0)
    record(Parameters(tile_pixels=1), None)
    schedules = Schedules(RecordStore(store.path, BOARD), machine)
    assert schedules(WORKLOAD) == Parameters(tile_pixels=2)
