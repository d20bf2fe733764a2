"""The accuracy command on a scratch supernet with untrained weights."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from ofa_tvm.accuracy import accuracy
from ofa_tvm.errors import InvalidCheckpointError, UsageError
from ofa_tvm.predictors import accuracy_training
from ofa_tvm.predictors.accuracy_lookup import load_accuracy_predictor
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet import metadata
from ofa_tvm.supernet.checkpoint import save_supernet
from ofa_tvm.supernet.metadata import (
    DEFAULT_SUPERNET,
    DataDescription,
    SupernetDescription,
    TrainingRecord,
    find_supernet,
)
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.training.accuracy_runs import subnets_to_measure
from ofa_tvm.training.characters import MEAN, STD
from ofa_tvm.training.evaluation import Evaluator
from ofa_tvm.training.glyphs import CLASS_NAMES
from ofa_tvm.training.records import AccuracyRecord, append_accuracy_record, read_accuracy_records

RUNS = Path("runs")
COUNTS = {"images": 200, "calibration_images": 64}
SUBNETS = 20


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """How well the predictor learns is tested elsewhere."""
    monkeypatch.setattr(accuracy_training, "_EPOCHS", 2)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(1)
    description = SupernetDescription(
        name="untrained",
        class_names=CLASS_NAMES,
        mean=MEAN,
        std=STD,
        data=DataDescription(kind="characters", calibration_seed=11, held_out_seed=12),
        training=TrainingRecord(command="", seed=0, batch_size=64, phases=(), finished="2025-01-01", versions={}),
    )
    return save_supernet(tmp_path, Supernet(SearchSpace(0.25, len(CLASS_NAMES), (32,))), description)


@pytest.fixture
def measured(monkeypatch):
    """Counts the subnets that are measured; interrupts before the one at which `stop_at` is set."""

    class Counter:
        stop_at = None
        count = 0

    measure = Evaluator.accuracy

    def counted(self, architecture):
        if Counter.count == Counter.stop_at:
            raise KeyboardInterrupt
        Counter.count += 1
        return measure(self, architecture)

    monkeypatch.setattr(Evaluator, "accuracy", counted)
    return Counter


def records(folder):
    return read_accuracy_records(folder.accuracy_files(RUNS).records, folder.metadata.weights_sha256)


def test_interrupted_then_resumed_then_trained_again(folder, measured, capsys):
    measured.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        accuracy(str(folder.path), SUBNETS, **COUNTS)
    assert len(records(folder)) == 5
    assert not folder.accuracy_files(RUNS).predictor.exists()

    measured.stop_at = None
    accuracy(str(folder.path), SUBNETS, **COUNTS, as_json=True)
    assert measured.count == SUBNETS
    assert [record.architecture for record in records(folder)] == subnets_to_measure(folder.metadata.space, SUBNETS, 0)
    captured = capsys.readouterr()
    assert "5 subnets have an accuracy record, 15 to measure" in captured.err
    result = json.loads(captured.out)
    assert result["records"] == SUBNETS
    accuracies = [record.accuracy for record in records(folder)]
    assert (result["lowest_accuracy"], result["highest_accuracy"]) == (min(accuracies), max(accuracies))
    predictions = load_accuracy_predictor(folder, RUNS).predict([folder.metadata.space.largest()])
    assert 0 <= predictions[0] <= 1

    accuracy(str(folder.path), **COUNTS)
    assert measured.count == SUBNETS
    assert "measured subnets" in capsys.readouterr().out


def test_records_on_other_counts_of_images_are_kept_apart(folder, measured, capsys):
    measured.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        accuracy(str(folder.path), SUBNETS, **COUNTS)
    accuracy(str(folder.path), SUBNETS, images=100, calibration_images=64, dry_run=True)
    assert "0 subnets have an accuracy record, 20 to measure" in capsys.readouterr().err


def test_a_dry_run_measures_nothing(folder, measured):
    accuracy(str(folder.path), SUBNETS, **COUNTS, dry_run=True)
    assert measured.count == 0
    assert not folder.accuracy_files(RUNS).records.exists()


def test_without_records_there_is_nothing_to_train_on(folder):
    with pytest.raises(UsageError, match="0 "):
        accuracy(str(folder.path), **COUNTS)


def test_an_accuracy_of_0_is_written_and_read(folder, measured, monkeypatch, capsys):
    monkeypatch.setattr(
        Evaluator,
        "accuracy",
        lambda self, architecture: AccuracyRecord(architecture, 0.0, 200, 64, folder.metadata.weights_sha256),
    )
    accuracy(str(folder.path), SUBNETS, **COUNTS)
    accuracy(str(folder.path), SUBNETS, **COUNTS, as_json=True)
    assert '"highest_accuracy": 0.0' in capsys.readouterr().out


def test_weights_that_are_no_numbers_are_refused_before_anything_is_measured(folder):
    weights = Supernet(folder.metadata.space)
    torch.nn.init.constant_(weights.classifier.linear.bias, float("nan"))
    spoilt = save_supernet(folder.path, weights, SupernetDescription.model_validate(description_of(folder)))
    with pytest.raises(InvalidCheckpointError, match=r"classifier\.linear\.bias holds NaN or infinity"):
        accuracy(str(spoilt.path), SUBNETS, **COUNTS)
    assert sorted(path.name for path in folder.path.iterdir()) == ["supernet.json", "weights.safetensors"]

    for architecture in subnets_to_measure(spoilt.metadata.space, SUBNETS, 0):  # as was measured before such a check
        record = AccuracyRecord(architecture, 0.03, 200, 64, spoilt.metadata.weights_sha256)
        append_accuracy_record(spoilt.accuracy_files(RUNS).records, record)
    with pytest.raises(InvalidCheckpointError, match=r"classifier\.linear\.bias holds NaN or infinity"):
        accuracy(str(spoilt.path), **COUNTS)
    assert not spoilt.accuracy_files(RUNS).predictor.exists()


def description_of(folder):
    return {name: getattr(folder.metadata, name) for name in SupernetDescription.model_fields}


def test_the_package_is_not_written_to(tmp_path, monkeypatch, capsys):
    shipped = shutil.copytree(metadata.SHIPPED_FOLDER, tmp_path / "shipped")
    monkeypatch.setattr(metadata, "SHIPPED_FOLDER", shipped)
    before = {path: path.read_bytes() for path in shipped.rglob("*") if path.is_file()}
    folder = find_supernet(DEFAULT_SUPERNET)
    files = folder.accuracy_files(tmp_path / "runs")
    record = read_accuracy_records(files.all_records[0], folder.metadata.weights_sha256)[0]
    own = dataclasses.replace(record, architecture=folder.metadata.space.sample_distinct(1, 123)[0])
    append_accuracy_record(files.records, own)
    accuracy(runs=tmp_path / "runs", as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert result["records"] == 490  # the shipped ones, and the user's
    assert result["accuracy_predictor"] == str(tmp_path / "runs/supernets/characters/accuracy_predictor")
    assert load_accuracy_predictor(folder, tmp_path / "runs").summary.records == 490
    assert {path: path.read_bytes() for path in shipped.rglob("*") if path.is_file()} == before


def test_an_unknown_supernet():
    with pytest.raises(InvalidCheckpointError, match="no supernet 'photographs'"):
        accuracy("photographs")


def test_a_front_is_measured_too(folder, tmp_path, capsys):
    front = [{"architecture": a.to_dict()} for a in folder.metadata.space.sample_distinct(3, 5)]
    path = tmp_path / "front.json"
    path.write_text(json.dumps({"front": front}))
    accuracy(str(folder.path), architectures=path, dry_run=True)
    assert "3 to measure" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", '{"front": [{}]}', '{"front": [{"architecture": {"resolution": 7}}]}'])
def test_a_file_that_is_no_front_is_an_error(folder, tmp_path, content):
    path = tmp_path / "front.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"front\.json is not what"):
        accuracy(str(folder.path), architectures=path, dry_run=True)
