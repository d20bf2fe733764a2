"""Which accuracy predictor a supernet is searched with: one of its very weights, the user's before the shipped one."""

from __future__ import annotations

import shutil

import pytest

from ofa_tvm.errors import InvalidRecordError
from ofa_tvm.predictors.accuracy import AccuracyPredictor
from ofa_tvm.predictors.accuracy_lookup import load_accuracy_predictor
from ofa_tvm.supernet import metadata
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A copy of what is shipped, found by name."""
    shutil.copytree(metadata.SHIPPED_FOLDER, tmp_path / "shipped")
    monkeypatch.setattr(metadata, "SHIPPED_FOLDER", tmp_path / "shipped")
    return lambda: find_supernet(DEFAULT_SUPERNET)


def store(folder, place, seed, digest=None):
    """A predictor that is told apart by its seed; of other weights, if a digest is given."""
    predictor = AccuracyPredictor.load(folder.path / "accuracy_predictor")
    summary = predictor.summary
    predictor.summary = type(summary)(summary.records, summary.records_sha256, seed, summary.held_out)
    predictor.save(place, {"weights_sha256": digest or folder.metadata.weights_sha256})


def test_the_shipped_one_until_the_user_has_one(shipped, runs):
    folder = shipped()
    assert load_accuracy_predictor(folder, runs).summary.seed == 0
    store(folder, folder.accuracy_files(runs).predictor, seed=7)
    assert load_accuracy_predictor(folder, runs).summary.seed == 7
    assert load_accuracy_predictor(folder, runs.with_name("others")).summary.seed == 0


def test_one_of_other_weights_is_passed_over(shipped, runs):
    folder = shipped()
    store(folder, folder.accuracy_files(runs).predictor, seed=7, digest="0" * 64)
    assert load_accuracy_predictor(folder, runs).summary.seed == 0


def test_replaced_weights_are_not_searched_with_the_old_predictor(shipped, runs):
    path = shipped().path / "supernet.json"
    path.write_text(path.read_text().replace(shipped().metadata.weights_sha256, "1" * 64))
    with pytest.raises(InvalidRecordError, match=r"was trained for other weights than .*python -m ofa_tvm.accuracy "):
        load_accuracy_predictor(shipped(), runs)


def test_one_that_does_not_say_what_it_was_trained_for_is_refused(shipped, runs):
    folder = shipped()
    AccuracyPredictor.load(folder.path / "accuracy_predictor").save(folder.path / "accuracy_predictor", {})
    with pytest.raises(InvalidRecordError, match="other weights"):
        load_accuracy_predictor(folder, runs)


def test_where_there_is_none_the_command_that_makes_one_is_named(shipped, runs):
    folder = shipped()
    shutil.rmtree(folder.path / "accuracy_predictor")
    with pytest.raises(
        InvalidRecordError,
        match=rf"^characters has no accuracy predictor in .*; make it with python -m ofa_tvm.accuracy --supernet "
        rf"characters --runs {runs} --subnets 320$",
    ):
        load_accuracy_predictor(folder, runs)


def test_the_users_own_damaged_one_is_named_and_not_passed_over(shipped, runs):
    folder = shipped()
    place = folder.accuracy_files(runs).predictor
    store(folder, place, seed=7)
    (place / "weights.safetensors").write_bytes(b"")
    with pytest.raises(InvalidRecordError, match=rf"{place}/weights.safetensors: not the file"):
        load_accuracy_predictor(folder, runs)


def test_a_supernet_in_a_folder_of_its_own_is_looked_up_beside_its_weights(shipped, runs):
    folder = find_supernet(str(shipped().path))
    store(folder, runs / "supernets" / DEFAULT_SUPERNET / "accuracy_predictor", seed=7)
    assert load_accuracy_predictor(folder, runs).summary.seed == 0
    shutil.rmtree(folder.path / "accuracy_predictor")
    assert load_accuracy_predictor(folder, runs).summary.seed == 7
