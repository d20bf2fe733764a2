from __future__ import annotations

from pathlib import Path

import pytest
import tvm
from tvm import s_tir, te
from tvm.s_tir import meta_schedule as ms
from tvm.target import Target

from ofa_tvm.compiler.general_search.database import ENDED, RECORDS, WORKLOADS, TuningDatabase, found_schedules
from ofa_tvm.errors import InvalidRecordError


def function(size: int) -> tvm.IRModule:
    source = te.placeholder((size,), "float32", "source")
    return tvm.IRModule(
        {"main": te.create_prim_func([source, te.compute((size,), lambda i: 2.0 * source[i], "doubled")])}
    )


def commit(database: TuningDatabase, host: Target, mod: tvm.IRModule, seconds: float) -> None:
    workload = database.records.commit_workload(mod)
    arguments = ms.arg_info.ArgInfo.from_entry_func(mod)
    schedule = s_tir.Schedule(mod)
    schedule.vectorize(schedule.get_loops(schedule.get_sblock("doubled"))[0])
    record = ms.database.TuningRecord(schedule.trace, workload, [seconds], host, arguments)
    database.records.commit_tuning_record(record)


def test_the_best_latency_is_known_at_once_and_later(host: Target, tmp_path: Path) -> None:
    database = TuningDatabase(tmp_path / "folder")
    assert database.best_ms(function(8)) is None
    for seconds in (3e-3, 2e-3, 1e10):
        commit(database, host, function(8), seconds)
    for known in (database, TuningDatabase(tmp_path / "folder")):
        assert known.best_ms(function(8)) == pytest.approx(2.0)
        assert known.best_ms(function(9)) is None


def test_a_function_of_which_every_candidate_failed_has_no_latency(host: Target, tmp_path: Path) -> None:
    database = TuningDatabase(tmp_path)
    commit(database, host, function(8), 1e10)
    assert database.best_ms(function(8)) is None


@pytest.mark.parametrize("name", [WORKLOADS, RECORDS])
def test_a_torn_line_is_left_out(host: Target, tmp_path: Path, name: str) -> None:
    commit(TuningDatabase(tmp_path), host, function(8), 1e-3)
    with (tmp_path / name).open("a") as stream:
        stream.write('["torn')
    database = TuningDatabase(tmp_path)
    commit(database, host, function(9), 2e-3)
    assert TuningDatabase(tmp_path).best_ms(function(9)) == pytest.approx(2.0)


def test_reading_writes_nothing(host: Target, tmp_path: Path) -> None:
    """Subnets are compiled from it, by several processes at once, while a search may be amid a line."""
    folder = tmp_path / "folder"
    commit(TuningDatabase(folder), host, function(8), 1e-3)
    for name in (WORKLOADS, RECORDS):
        with (folder / name).open("a") as stream:
            stream.write('["torn')
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = found_schedules(folder)
    assert [float(record.run_secs[0]) for record in found.get_all_tuning_records()] == [1e-3]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / RECORDS).unlink()
    assert not list(found_schedules(folder).get_all_tuning_records())
    assert not (folder / RECORDS).exists()


@pytest.mark.parametrize("name", [WORKLOADS, RECORDS, ENDED])
def test_damage_is_the_users_to_mend(host: Target, tmp_path: Path, name: str) -> None:
    database = TuningDatabase(tmp_path)
    commit(database, host, function(8), 1e-3)
    database.end(function(8), 1)
    (tmp_path / name).write_text("[0]\n" + (tmp_path / name).read_text())
    with pytest.raises(InvalidRecordError, match=str(tmp_path)) as caught:
        TuningDatabase(tmp_path)
    assert "\n" not in str(caught.value)


def test_searches_that_ended_are_remembered_by_their_trials(tmp_path: Path) -> None:
    database = TuningDatabase(tmp_path)
    for trials in (16, 8):
        database.end(function(8), trials)
    for known in (database, TuningDatabase(tmp_path)):
        assert known.has_ended(function(8), 16)
        assert not known.has_ended(function(8), 17)
        assert not known.has_ended(function(9), 0)


@pytest.mark.parametrize(
    ("latency", "fault"),
    [
        ("[0.0]", "ran for 0.0 s"),
        ("[-0.001]", "ran for -0.001 s"),
        ("[3601]", "ran for 3601.0 s"),
        ("[]", "has no latency"),
        ("[NaN]", r"1\.1\.0: NaN is no number"),
    ],
)
def test_a_latency_that_cannot_be_is_refused_with_its_line(
    host: Target, tmp_path: Path, latency: str, fault: str
) -> None:
    database = TuningDatabase(tmp_path)
    for seconds in (1e-3, 0.5, 1e10):
        commit(database, host, function(8), seconds)
    path = tmp_path / RECORDS
    assert "[0.5]" in path.read_text()
    path.write_text(path.read_text().replace("[0.5]", latency))
    for read in (TuningDatabase, found_schedules):
        with pytest.raises(InvalidRecordError, match=f"{RECORDS}, line 2: {fault}.*; remove the line") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)
