"""Measuring the accuracy of subnets as a stage: callable without a command."""

from __future__ import annotations

import dataclasses

import pytest

from ofa_tvm.reporting import Silent
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.accuracy_files import AccuracyFiles
from ofa_tvm.training.accuracy_runs import AccuracyRun, subnets_to_measure
from ofa_tvm.training.records import append_accuracy_record


@pytest.fixture
def run(untrained, tmp_path):
    """On few images; its records go to a folder of the test."""
    return AccuracyRun(untrained, AccuracyFiles(own=tmp_path / "own", other=tmp_path / "other"), 100, 20)


def test_subnets_to_measure():
    space = SearchSpace(0.25, 47, (32, 36))
    subnets = subnets_to_measure(space, 50, 0)
    assert len(set(subnets)) == 50
    assert set(subnets[:4]) == {extreme(r) for extreme in (space.smallest, space.largest) for r in (32, 36)}
    assert subnets_to_measure(space, 30, 0) == subnets[:30]
    assert subnets_to_measure(space, 50, 1) != subnets
    assert subnets_to_measure(space, 0, 0) == []


def test_what_has_no_record_is_measured_once_and_told(run, space):
    totals = []

    class Counting(Silent):
        def progress(self, total, description, done=0):
            totals.append(total)
            return super().progress(total, description, done)

    subnets = [space.smallest(), space.smallest(36), space.smallest()]
    assert run.left(subnets) == subnets[:2]
    run.measure(subnets, Counting())
    assert [record.architecture for record in run.records()] == subnets[:2]
    assert run.left(subnets) == []
    run.measure([*subnets, space.largest()], Counting())
    run.measure(subnets, Counting())
    assert totals == [2, 1]
    assert len(run.records()) == 3
    assert not run.files.other.exists()


def test_what_the_supernet_came_with_counts_and_comes_first(run, space):
    run.measure([space.smallest()])
    (own,) = run.records()
    shipped = dataclasses.replace(own, architecture=space.largest(), accuracy=0.0)
    append_accuracy_record(run.files.other / "accuracy.jsonl", shipped)
    assert run.records() == [shipped, own]
    assert run.left([space.largest(), space.smallest(), space.smallest(36)]) == [space.smallest(36)]


def test_records_of_other_weights_or_on_other_images_stay_aside(run, space):
    run.measure([space.smallest()])
    (record,) = run.records()
    for change in ({"images": 101}, {"calibration_images": 21}, {"weights_sha256": "0" * 64}):
        append_accuracy_record(run.files.records, dataclasses.replace(record, **change))
    assert run.records() == [record]
