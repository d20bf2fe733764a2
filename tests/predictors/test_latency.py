from __future__ import annotations

import json

import numpy as np
import pytest

from ofa_tvm.errors import InvalidRecordError, UsageError
from ofa_tvm.measurement.identity import TargetIdentity
from ofa_tvm.predictors.latency import LatencyPredictor
from ofa_tvm.predictors.metrics import held_out_metrics


def test_predicts_unseen_subnets(latency_predictor, draw, device_latency_ms):
    unseen = draw(60, 77)
    metrics = held_out_metrics(latency_predictor.predict(unseen), [device_latency_ms(a) for a in unseen])
    assert metrics.mape < 0.04
    assert metrics.spearman > 0.98


def test_cross_validation_tells_the_error_on_unseen_subnets(latency_predictor, draw, device_latency_ms):
    unseen = draw(60, 77)
    metrics = held_out_metrics(latency_predictor.predict(unseen), [device_latency_ms(a) for a in unseen])
    assert latency_predictor.held_out.count == 40
    assert metrics.mape / 2 < latency_predictor.held_out.mape < metrics.mape * 3


def test_beats_the_plain_sum_of_kernels(space, latency_predictor, draw, device_latency_ms, kernel_latencies_ms):
    from ofa_tvm.space.mobilenet_v3 import workloads

    unseen = draw(60, 77)
    measured = [device_latency_ms(a) for a in unseen]
    sums = [sum(kernel_latencies_ms[k] for k in workloads(space, a)) for a in unseen]
    ours = held_out_metrics(latency_predictor.predict(unseen), measured)
    assert ours.mape < held_out_metrics(sums, measured).mape / 3


def test_extremes_are_extrapolated_sanely(space, latency_predictor, device_latency_ms):
    for architecture in (space.smallest(), space.largest()):
        (predicted,) = latency_predictor.predict([architecture])
        assert predicted == pytest.approx(device_latency_ms(architecture), rel=0.15)


def test_few_measured_kernels_still_predict(space, draw, device_latency_ms, kernel_latencies_ms):
    rng = np.random.default_rng(0)
    kernels = list(kernel_latencies_ms)
    some = {kernels[i]: kernel_latencies_ms[kernels[i]] for i in rng.choice(len(kernels), 60, replace=False)}
    architectures = draw(40, 1)
    predictor = LatencyPredictor.fit(space, architectures, [device_latency_ms(a) for a in architectures], some)
    assert predictor.kernel_coverage < 0.5
    unseen = draw(60, 77)
    metrics = held_out_metrics(predictor.predict(unseen), [device_latency_ms(a) for a in unseen])
    assert metrics.spearman > 0.9


def test_same_data_same_predictor(space, draw, device_latency_ms, kernel_latencies_ms):
    architectures = draw(15, 1)
    measured = [device_latency_ms(a) for a in architectures]
    first, second = (LatencyPredictor.fit(space, architectures, measured, kernel_latencies_ms, seed=3) for _ in "ab")
    np.testing.assert_array_equal(first.predict(draw(20, 8)), second.predict(draw(20, 8)))
    assert first.held_out == second.held_out


def test_repeated_measurements_count_as_their_median(space, draw, device_latency_ms, kernel_latencies_ms):
    architectures = draw(15, 1)
    measured = [device_latency_ms(a) for a in architectures]
    once = LatencyPredictor.fit(space, architectures, measured, kernel_latencies_ms)
    outlier = [*measured, measured[0], 100.0]
    again = LatencyPredictor.fit(
        space, [*architectures, architectures[0], architectures[0]], outlier, kernel_latencies_ms
    )
    assert again.subnets == 15
    np.testing.assert_array_equal(once.predict(architectures), again.predict(architectures))


def test_too_few_subnets_say_how_many_are_needed(space, draw, kernel_latencies_ms):
    with pytest.raises(UsageError, match=r"9 measured subnets.*needs 10"):
        LatencyPredictor.fit(space, draw(9, 1), [1.0] * 9, kernel_latencies_ms)


def test_lengths_must_agree(space, draw, kernel_latencies_ms):
    with pytest.raises(UsageError, match="12 architectures with 11"):
        LatencyPredictor.fit(space, draw(12, 1), [1.0] * 11, kernel_latencies_ms)


@pytest.mark.parametrize("latency_ms", [0.0, float("nan")])
def test_impossible_latencies_are_refused(space, draw, kernel_latencies_ms, latency_ms):
    with pytest.raises(InvalidRecordError, match="measure it again"):
        LatencyPredictor.fit(space, draw(12, 1), [1.0] * 11 + [latency_ms], kernel_latencies_ms)


def test_a_stored_kernel_without_a_size_is_refused(latency_predictor, tmp_path):
    latency_predictor.save(tmp_path / "stored", {})
    path = tmp_path / "stored" / "metadata.json"
    content = json.loads(path.read_text())
    content["kernels"][3]["workload"]["height"] = float("nan")
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidRecordError, match=r"metadata.json: kernels\.3\.workload\.height.*profile"):
        LatencyPredictor.load(tmp_path / "stored")


@pytest.mark.parametrize("latency_ms", [0, -1, 1e10])
def test_a_stored_latency_that_cannot_be_is_refused(latency_predictor, tmp_path, latency_ms):
    latency_predictor.save(tmp_path / "stored", {})
    path = tmp_path / "stored" / "metadata.json"
    content = json.loads(path.read_text())
    content["kernels"][3]["latency_ms"] = latency_ms
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidRecordError, match=r"metadata.json: kernels\.3\.latency_ms: .*profile"):
        LatencyPredictor.load(tmp_path / "stored")


@pytest.mark.parametrize(
    ("stored", "difference"),
    [({"threads": 2}, "threads: 2 -> default"), (None, "not noted by an earlier version")],
)
def test_a_predictor_of_other_settings_is_refused(latency_predictor, tmp_path, stored, difference):
    latency_predictor.save(tmp_path, {}, stored)
    with pytest.raises(InvalidRecordError) as caught:
        LatencyPredictor.load(tmp_path, TargetIdentity("rasp4", {}))
    assert f"of rasp4 with other settings ({difference}); make it anew with python -m ofa_tvm.profile" in str(
        caught.value
    )
    assert LatencyPredictor.load(tmp_path).subnets == latency_predictor.subnets


def test_a_predictor_of_the_same_settings_is_read(latency_predictor, tmp_path):
    latency_predictor.save(tmp_path, {}, {"threads": 2, "tvm_target.mattr": ["+neon"]})
    today = TargetIdentity("rasp4", {"tvm_target.mattr": ["+neon"], "threads": 2})
    assert LatencyPredictor.load(tmp_path, today).subnets == latency_predictor.subnets
