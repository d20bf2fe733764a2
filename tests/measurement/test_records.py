"""Records survive kills and refuse damage; what is recorded is found again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ofa_tvm.errors import InvalidRecordError
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure
from ofa_tvm.measurement.records import KernelRecord, RecordStore, SubnetRecord
from ofa_tvm.space.workload import Workload

WORKLOAD = Workload("pointwise", 16, 32, 7, 7, activation="relu", residual=True)
MEASUREMENT = Measurement(
    samples_ms=(1.0, 2.0, 3.0),
    median_ms=2.0,
    min_ms=1.0,
    spread=0.5,
    drift=0.01,
    reference_ms=0.1,
    device="board",
    emulated=False,
    timestamp="2026-01-01T00:00:00+00:00",
    versions={"apache-tvm": "0.27"},
)
FAILURE = MeasurementFailure("crashed", "board", "2026-01-01T00:00:00+00:00", {})
KERNEL = KernelRecord(target="rasp4", workload=WORKLOAD, parameters={"tile": 7, "blocks": 2}, outcome=MEASUREMENT)
SUBNET = SubnetRecord(
    target="rasp4", architecture={"depths": [2, 3], "width": 1.0}, kernels="5a1f", outcome=MEASUREMENT
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records" / "rasp4.jsonl"


def test_what_is_written_is_read_back(path: Path):
    store = RecordStore(path)
    failed = KERNEL.model_copy(update={"outcome": FAILURE, "parameters": {"tile": 8}})
    for record in (KERNEL, SUBNET, failed):
        store.append(record)
    again = RecordStore(path)
    assert list(again) == list(store) == [KERNEL, SUBNET, failed]
    assert again.of_type(SubnetRecord) == [SUBNET]
    assert [record.error for record in again.of_type(KernelRecord)] == [None, "crashed"]
    assert again.of_type(KernelRecord)[0].measurement == MEASUREMENT


def test_records_of_a_batch_are_written_together(path: Path):
    store = RecordStore(path)
    store.append_all([KERNEL, SUBNET])
    assert list(RecordStore(path)) == list(store) == [KERNEL, SUBNET]
    assert store.subnet("rasp4", SUBNET.architecture, "5a1f") == SUBNET


def test_lookup_finds_the_same_thing_and_nothing_else(path: Path):
    store = RecordStore(path)
    store.append(KERNEL)
    store.append(SUBNET)
    for found in (store, RecordStore(path)):
        assert found.kernel("rasp4", WORKLOAD, {"blocks": 2, "tile": 7}) == KERNEL
        assert found.kernel("rasp3", WORKLOAD, {"blocks": 2, "tile": 7}) is None
        assert found.kernel("rasp4", WORKLOAD, {"blocks": 2, "tile": 8}) is None
        assert found.kernel("rasp4", replace(WORKLOAD, residual=False), {"blocks": 2, "tile": 7}) is None
        assert found.subnet("rasp4", {"width": 1.0, "depths": [2, 3]}, "5a1f") == SUBNET
        assert found.subnet("rasp4", {"width": 1.0, "depths": (2, 3)}, "5a1f") == SUBNET
        assert found.subnet("rasp4", {"width": 1.0, "depths": [2, 3]}, "77e0") is None


def test_latest_record_wins_and_none_is_lost(path: Path):
    store = RecordStore(path)
    newer = KERNEL.model_copy(update={"outcome": replace(MEASUREMENT, median_ms=1.5)})
    store.append(KERNEL)
    store.append(newer)
    assert RecordStore(path).kernel("rasp4", WORKLOAD, KERNEL.parameters) == newer
    assert len(RecordStore(path)) == 2


def test_run_killed_while_writing_goes_on(path: Path):
    store = RecordStore(path)
    store.append(KERNEL)
    with path.open("ab") as stream:
        stream.write(b'{"target":"rasp4","outc')
    resumed = RecordStore(path)
    assert list(resumed) == [KERNEL]
    resumed.append(SUBNET)
    assert list(RecordStore(path)) == [KERNEL, SUBNET]


def _change(content: dict[str, Any], *keys: str, value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(content))
    section = changed
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("colour",), "red"),
        (("workload", "colour"), "red"),
        (("workload", "kind"), "dense"),
        (("workload",), 3),
        (("outcome", "colour"), "red"),
        (("outcome", "median_ms"), "fast"),
        (("outcome", "median_ms"), float("nan")),
        (("outcome", "samples_ms"), None),
        (("record",), "network"),
        (("target",), ""),
    ],
)
def test_damaged_record_is_refused_with_its_line(path: Path, keys: tuple[str, ...], value: Any):
    path.parent.mkdir()
    good = KERNEL.model_dump(mode="json")
    path.write_text("\n".join(json.dumps(content) for content in (good, _change(good, *keys, value=value))) + "\n")
    with pytest.raises(InvalidRecordError, match="line 2") as caught:
        RecordStore(path)
    assert "\n" not in str(caught.value)
