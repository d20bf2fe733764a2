from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from ofa_tvm.errors import UsageError
from ofa_tvm.predictors.metrics import Metrics, held_out_metrics


def test_known_errors():
    metrics = held_out_metrics([1.0, 2.0, 5.0], [2.0, 2.0, 4.0])
    assert metrics.count == 3
    assert metrics.mae == pytest.approx(2 / 3)
    assert metrics.rmse == pytest.approx(np.sqrt(2 / 3))
    assert metrics.mape == pytest.approx((0.5 + 0 + 0.25) / 3)
    assert metrics.worst_error == 1.0


def test_rank_correlations_are_scipys():
    rng = np.random.default_rng(0)
    measured = rng.uniform(1, 2, 30)
    predicted = measured + rng.normal(0, 0.2, 30)
    metrics = held_out_metrics(predicted, measured)
    assert metrics.spearman == pytest.approx(stats.spearmanr(predicted, measured).statistic)
    assert metrics.kendall == pytest.approx(stats.kendalltau(predicted, measured).statistic)


def test_a_measurement_of_0_has_no_relative_error():
    metrics = held_out_metrics([0.1, 0.5, 0.6], [0.0, 0.4, 0.5])
    assert metrics.mae == pytest.approx(0.1)
    assert metrics.mape == pytest.approx((0.25 + 0.2) / 2)
    assert held_out_metrics([0.1, 0.5], [0.0, 0.0]).mape == 0.0


def test_reversed_order():
    metrics = held_out_metrics([3.0, 2.0, 1.0], [1.0, 2.0, 3.0])
    assert (metrics.spearman, metrics.kendall) == pytest.approx((-1.0, -1.0))


def test_constant_predictions_have_no_correlation_and_stay_json():
    metrics = held_out_metrics([1.0, 1.0], [1.0, 2.0])
    assert (metrics.spearman, metrics.kendall) == (0.0, 0.0)
    assert Metrics(**json.loads(json.dumps(metrics.to_dict(), allow_nan=False))) == metrics


@pytest.mark.parametrize(
    ("predicted", "measured"),
    [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [-1.0, 1.0]), ([1.0, 2.0], [np.nan, 1.0])],
)
def test_what_cannot_be_compared_is_refused(predicted, measured):
    with pytest.raises(UsageError):
        held_out_metrics(predicted, measured)
