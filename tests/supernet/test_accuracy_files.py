"""Whose folder a supernet's accuracy records and predictor go to, and which are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofa_tvm.supernet import accuracy_files as module
from ofa_tvm.supernet.accuracy_files import accuracy_files
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, SHIPPED_FOLDER, find_supernet

RUNS = Path("runs")


@pytest.fixture
def read_only(monkeypatch):
    """Every folder refuses to be written to, also to root."""
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)


def test_what_is_measured_of_a_shipped_supernet_goes_to_the_users_folder():
    files = find_supernet(DEFAULT_SUPERNET).accuracy_files(RUNS)
    assert files.records == RUNS / "supernets" / DEFAULT_SUPERNET / "accuracy.jsonl"
    assert files.predictor == RUNS / "supernets" / DEFAULT_SUPERNET / "accuracy_predictor"


def test_its_own_records_come_first_and_the_users_predictor_counts_first():
    files = find_supernet(DEFAULT_SUPERNET).accuracy_files(RUNS)
    shipped = SHIPPED_FOLDER / DEFAULT_SUPERNET
    assert files.all_records == (shipped / "accuracy.jsonl", files.records)
    assert files.all_predictors == (files.predictor, shipped / "accuracy_predictor")
    assert files.all_records[0].is_file()
    assert files.all_predictors[1].is_dir()


def test_named_by_its_folder_the_shipped_one_is_renewed():
    folder = SHIPPED_FOLDER / DEFAULT_SUPERNET
    assert find_supernet(str(folder)).accuracy_files(RUNS).own == folder


def test_a_supernet_of_the_user_keeps_its_own_beside_the_weights(tmp_path):
    files = accuracy_files(tmp_path, False, RUNS, "mine")
    assert files.own == tmp_path
    assert files.all_records == (RUNS / "supernets/mine/accuracy.jsonl", tmp_path / "accuracy.jsonl")


def test_a_folder_that_cannot_be_written_is_only_read(tmp_path, read_only):
    files = accuracy_files(tmp_path, False, RUNS, "mine")
    assert files.own == RUNS / "supernets/mine"
    assert files.other == tmp_path
