"""Records survive kills and refuse damage; what is recorded is found again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ofa_tvm.errors import InvalidRecordError
from ofa_tvm.measurement.identity import TargetIdentity
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure
from ofa_tvm.measurement.records import KernelRecord, RecordStore, SubnetRecord, read_records
from ofa_tvm.space.workload import Workload

WORKLOAD = Workload("pointwise", 16, 32, 7, 7, activation="relu", residual=True)
SETTINGS = {"threads": 2, "tvm_target.mattr": ["+neon"]}
RASP4 = TargetIdentity("rasp4", SETTINGS)
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
KERNEL = KernelRecord(
    target="rasp4",
    settings=SETTINGS,
    workload=WORKLOAD,
    parameters={"tile": 7, "blocks": 2},
    outcome=MEASUREMENT,
)
SUBNET = SubnetRecord(
    target="rasp4",
    settings=SETTINGS,
    architecture={"depths": [2, 3], "width": 1.0},
    kernels="5a1f",
    outcome=MEASUREMENT,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records" / "rasp4.jsonl"


def test_what_is_written_is_read_back(path: Path):
    store = RecordStore(path, RASP4)
    failed = KERNEL.model_copy(update={"outcome": FAILURE, "parameters": {"tile": 8}})
    for record in (KERNEL, SUBNET, failed):
        store.append(record)
    again = RecordStore(path, RASP4)
    assert list(again) == list(store) == [KERNEL, SUBNET, failed]
    assert again.of_type(SubnetRecord) == [SUBNET]
    assert [record.error for record in again.of_type(KernelRecord)] == [None, "crashed"]
    assert again.of_type(KernelRecord)[0].measurement == MEASUREMENT


def test_records_of_a_batch_are_written_together(path: Path):
    store = RecordStore(path, RASP4)
    store.append_all([KERNEL, SUBNET])
    assert list(RecordStore(path, RASP4)) == list(store) == [KERNEL, SUBNET]
    assert store.subnet(SUBNET.architecture, "5a1f") == SUBNET


def test_lookup_finds_the_same_thing_and_nothing_else(path: Path):
    store = RecordStore(path, RASP4)
    store.append(KERNEL)
    store.append(SUBNET)
    for found in (store, RecordStore(path, RASP4)):
        assert found.kernel(WORKLOAD, {"blocks": 2, "tile": 7}) == KERNEL
        assert found.kernel(WORKLOAD, {"blocks": 2, "tile": 8}) is None
        assert found.kernel(WORKLOAD, {"blocks": 2, "tile": 7}, screening=True) is None
        assert found.kernel(replace(WORKLOAD, residual=False), {"blocks": 2, "tile": 7}) is None
        assert found.subnet({"width": 1.0, "depths": [2, 3]}, "5a1f") == SUBNET
        assert found.subnet({"width": 1.0, "depths": (2, 3)}, "5a1f") == SUBNET
        assert found.subnet({"width": 1.0, "depths": [2, 3]}, "77e0") is None


@pytest.mark.parametrize(
    ("today", "difference"),
    [
        ({**SETTINGS, "threads": 1}, "threads: 2 -> 1"),
        ({"threads": 2, "tvm_target.mattr": ["+neon", "-aes"]}, "tvm_target.mattr: [+neon] -> [+neon, -aes]"),
        ({"tvm_target.mattr": ["+neon"], "lanes": 8}, "threads: 2 -> default, lanes: default -> 8"),
    ],
)
def test_records_of_other_settings_are_left_aside_named_and_kept(path: Path, today: dict[str, Any], difference: str):
    RecordStore(path, RASP4).append_all([KERNEL, SUBNET])
    store = RecordStore(path, TargetIdentity("rasp4", today))
    assert (len(store), list(store), store.of_type(KernelRecord), store.latest_kernels()) == (0, [], [], [])
    assert store.kernel(WORKLOAD, KERNEL.parameters) is None
    assert store.subnet(SUBNET.architecture, "5a1f") is None
    assert f"2 records of rasp4, measured with other settings ({difference}), left aside" in str(store.left_aside())
    store.append(KERNEL)
    assert store.kernel(WORKLOAD, KERNEL.parameters) == KERNEL.model_copy(update={"settings": today})
    assert len(read_records(path)) == 3
    again = RecordStore(path, RASP4)
    assert list(again) == [KERNEL, SUBNET]
    assert again.kernel(WORKLOAD, KERNEL.parameters) == KERNEL


def test_records_without_settings_are_left_aside(path: Path):
    """Those of a version that knew a target by its name alone."""
    path.parent.mkdir()
    old = KERNEL.model_dump(mode="json", exclude={"settings"})
    path.write_text(f"{json.dumps(old)}\n")
    store = RecordStore(path, RASP4)
    assert not len(store)
    assert "1 record of rasp4, measured with other settings (not noted by an earlier" in str(store.left_aside())
    store.append(KERNEL)
    assert list(RecordStore(path, RASP4)) == [KERNEL]


def test_records_of_another_target_are_none_of_this(path: Path):
    RecordStore(path, RASP4).append(KERNEL)
    other = RecordStore(path, TargetIdentity("rasp3", SETTINGS))
    assert (list(other), other.left_aside()) == ([], None)


def test_all_that_differs_is_named(path: Path):
    RecordStore(path, RASP4).append_all([KERNEL, SUBNET])
    RecordStore(path, TargetIdentity("rasp4", {"threads": 4})).append(KERNEL)
    line = RecordStore(path, TargetIdentity("rasp4", {})).left_aside()
    assert "3 records" in str(line)
    assert "(2 threads: 2 -> default, tvm_target.mattr: [+neon] -> default; 1 threads: 4 -> default)" in str(line)


def test_what_is_at_its_default_is_in_no_key():
    """So that a field that comes later, with a default, does not make other records of these."""
    plain = KernelRecord(target="rasp4", workload=Workload("pool", 16, 16, 7, 7), outcome=MEASUREMENT)
    workload = {"kind": "pool", "in_channels": 16, "out_channels": 16, "height": 7, "width": 7}
    assert json.loads(plain.key) == {"record": "kernel", "target": "rasp4", "workload": workload}
    told = plain.model_copy(update={"screening": True, "parameters": {"tile": 2}, "settings": {}})
    changed = {"screening": True, "parameters": {"tile": 2}, "settings": {}}
    assert json.loads(told.key) == {**json.loads(plain.key), **changed}


def test_latest_record_wins_and_none_is_lost(path: Path):
    store = RecordStore(path, RASP4)
    newer = KERNEL.model_copy(update={"outcome": replace(MEASUREMENT, samples_ms=(1.0, 1.5, 3.0), median_ms=1.5)})
    store.append(KERNEL)
    store.append(newer)
    assert RecordStore(path, RASP4).kernel(WORKLOAD, KERNEL.parameters) == newer
    assert len(RecordStore(path, RASP4)) == 2


def test_run_killed_while_writing_goes_on(path: Path):
    store = RecordStore(path, RASP4)
    store.append(KERNEL)
    with path.open("ab") as stream:
        stream.write(b'{"target":"rasp4","outc')
    resumed = RecordStore(path, RASP4)
    assert list(resumed) == [KERNEL]
    resumed.append(SUBNET)
    assert list(RecordStore(path, RASP4)) == [KERNEL, SUBNET]


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
        (("settings",), 3),
        (("target",), ""),
    ],
)
def test_damaged_record_is_refused_with_its_line(path: Path, keys: tuple[str, ...], value: Any):
    path.parent.mkdir()
    good = KERNEL.model_dump(mode="json")
    path.write_text("\n".join(json.dumps(content) for content in (good, _change(good, *keys, value=value))) + "\n")
    with pytest.raises(InvalidRecordError, match="line 2") as caught:
        RecordStore(path, RASP4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"median_ms": 0.0}, "median_ms is 0.0"),
        ({"median_ms": -1.0}, "median_ms is -1.0"),
        ({"median_ms": 1e10}, "median_ms is 10000000000.0"),
        ({"median_ms": 0.002}, "median_ms is 0.002, that of its samples 2.0"),
        ({"min_ms": 0.5}, "min_ms is 0.5, that of its samples 1.0"),
        ({"samples_ms": ()}, "samples_ms has no samples"),
        ({"samples_ms": (1.0, 2.0, -3.0)}, "samples_ms has -3.0"),
        ({"samples_ms": (0.0, 2.0, 3.0), "min_ms": 0.0}, "samples_ms has 0.0"),
        ({"samples_ms": (1e10,), "median_ms": 1e10, "min_ms": 1e10}, "samples_ms has 10000000000.0"),
        ({"spread": -0.1}, "spread is -0.1"),
        ({"drift": -0.1}, "drift is -0.1"),
        ({"reference_ms": 0.0}, "reference_ms is 0.0"),
        ({"reference_ms": -0.1}, "reference_ms is -0.1"),
    ],
)
def test_a_measurement_that_cannot_be_is_refused_and_never_written(path: Path, changes: dict[str, Any], fault: str):
    path.parent.mkdir()
    odd = KERNEL.model_copy(update={"outcome": replace(MEASUREMENT, **changes)})
    path.write_text("".join(f"{json.dumps(record.model_dump(mode='json'))}\n" for record in (KERNEL, odd)))
    with pytest.raises(InvalidRecordError, match=f"line 2: outcome.{fault}.*; remove the line") as caught:
        RecordStore(path, RASP4)
    assert "\n" not in str(caught.value)
    path.unlink()
    RecordStore(path, RASP4).append(odd)
    (read,) = RecordStore(path, RASP4)
    assert fault in str(read.error)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("old", ['"tile": 7', '"drift": 0.01', '"threads": 2'])
def test_what_is_no_number_is_refused(path: Path, number: str, old: str):
    path.parent.mkdir()
    line = json.dumps(KERNEL.model_dump(mode="json"))
    assert old in line
    path.write_text(f"{line.replace(old, old.partition(':')[0] + ': ' + number)}\n")
    with pytest.raises(InvalidRecordError, match=rf"line 1: .*\w: {number} is no number; remove the line"):
        RecordStore(path, RASP4)
