"""What any predictor must hold to, run on each that there is."""

from __future__ import annotations

import numpy as np
import pytest

from ofa_tvm.errors import InvalidArchitectureError, InvalidRecordError
from ofa_tvm.predictors.metadata import METADATA_NAME


@pytest.fixture(params=["latency_predictor", "accuracy_predictor"])
def predictor(request):
    return request.getfixturevalue(request.param)


def test_one_finite_positive_number_each(predictor, draw):
    predictions = predictor.predict(draw(17, 9))
    assert predictions.shape == (17,)
    assert predictions.dtype == np.float64
    assert np.isfinite(predictions).all()
    assert (predictions > 0).all()


def test_no_architectures_no_predictions(predictor):
    assert predictor.predict([]).shape == (0,)


def test_deterministic_and_independent_of_the_batch(predictor, draw):
    architectures = draw(30, 9)
    predictions = predictor.predict(architectures)
    np.testing.assert_array_equal(predictions, predictor.predict(architectures))
    one_by_one = np.concatenate([predictor.predict([a]) for a in architectures])
    np.testing.assert_allclose(predictions, one_by_one, rtol=1e-6)


def test_foreign_architectures_are_refused(predictor, space):
    with pytest.raises(InvalidArchitectureError):
        predictor.predict([space.smallest(36)])


def test_saved_and_loaded_predicts_the_same(predictor, draw, tmp_path):
    predictor.save(tmp_path / "stored", {"target": "null"})
    loaded = type(predictor).load(tmp_path / "stored")
    assert loaded.space == predictor.space
    architectures = draw(30, 9)
    np.testing.assert_array_equal(loaded.predict(architectures), predictor.predict(architectures))
    loaded.save(tmp_path / "again", {"target": "null"})
    for path in (tmp_path / "stored").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_nothing_stored_names_the_command(predictor, tmp_path):
    with pytest.raises(InvalidRecordError, match=r"python -m ofa_tvm\."):
        type(predictor).load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b'"version": 1', b'"version": 2', "version"),
        (b'"seed"', b'"sead"', "sead|seed"),
        (b'"format": "ofa_tvm', b'"format": "another', "format"),
        (b'"mobilenet_v3"', b'"resnet50d"', "resnet50d"),
        (b'"width_multiplier": 0.5', b'"width_multiplier": NaN', "width multiplier nan"),
        (b'"resolutions": [', b'"resolutions": [NaN,', "not a search space"),
        (b'"mae": ', b'"mae": NaN, "x": ', "held_out.mae"),
        (b"{", b"", "metadata.json"),
        (b'"mape": ', b'"mape": -', "held_out.mape"),
        (b'"seed": 0', b'"seed": NaN', "metadata.json: seed: "),
    ],
)
def test_damaged_metadata_is_refused(predictor, tmp_path, old, new, named):
    predictor.save(tmp_path / "stored", {})
    path = tmp_path / "stored" / METADATA_NAME
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(InvalidRecordError, match=named):
        type(predictor).load(tmp_path / "stored")


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"", lambda content: content + b" "])
def test_a_damaged_model_is_refused(predictor, tmp_path, damage):
    predictor.save(tmp_path / "stored", {})
    (path,) = (path for path in (tmp_path / "stored").iterdir() if path.name != METADATA_NAME)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidRecordError, match=path.name):
        type(predictor).load(tmp_path / "stored")
