"""The regression inside the latency predictor: a linear model of the kernel sum, corrected by XGBoost.

A subnet's latency is close to the sum of its kernels' latencies, and where it differs it does so
smoothly (cost of each launch, caches warmed by the kernel before). So a linear model of the sum
comes first, and XGBoost learns only the logarithm of what the linear model misses: a few dozen
measured subnets are enough, and far from them the prediction falls back to the sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xgboost
from numpy.typing import NDArray
from scipy.optimize import nnls

from ofa_tvm.predictors.features import FEATURE_NAMES, KERNEL_SUM, KERNELS
from ofa_tvm.predictors.metrics import Metrics, held_out_metrics

_ROUNDS = 150
_PARAMETERS = {
    "objective": "reg:squarederror",
    "base_score": 0.0,
    "max_depth": 2,
    "eta": 0.06,
    "min_child_weight": 3,
    "lambda": 2.0,
    "subsample": 0.8,
    "colsample_bytree": 0.6,
    "nthread": 1,
}


@dataclass(frozen=True, slots=True, eq=False)
class LatencyModel:
    """Maps features of shape (subnets, features) to milliseconds.

    Attributes
    ----------
    overheads
        Cost of each millisecond of the kernel sum, of each kernel, and of each run; none negative.
    booster
        Predicts the logarithm of measured latency over that of the linear model.
    """

    overheads: tuple[float, float, float]
    booster: xgboost.Booster

    @classmethod
    def fit(cls, features: NDArray[np.float64], measured_ms: NDArray[np.float64], seed: int) -> LatencyModel:
        """Fit to measured subnets, latencies of shape (subnets,)."""
        drivers = _overhead_drivers(features)
        # Relative errors count, so each row is divided by its measurement.
        overheads, _ = nnls(drivers / measured_ms[:, None], np.ones(len(measured_ms)))
        data = xgboost.DMatrix(features, np.log(measured_ms / (drivers @ overheads)), feature_names=list(FEATURE_NAMES))
        booster = xgboost.train(_PARAMETERS | {"seed": seed}, data, num_boost_round=_ROUNDS)
        return cls((float(overheads[0]), float(overheads[1]), float(overheads[2])), booster)

    @classmethod
    def from_json(cls, overheads: tuple[float, float, float], booster_json: bytes) -> LatencyModel:
        """Rebuild a model from its parts, the booster in XGBoost's own JSON."""
        booster = xgboost.Booster({"nthread": _PARAMETERS["nthread"]})
        booster.load_model(bytearray(booster_json))
        return cls(overheads, booster)

    def booster_json(self) -> bytes:
        """The booster in XGBoost's own JSON."""
        return bytes(self.booster.save_raw("json"))

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Latencies in milliseconds, shape (subnets,), positive."""
        correction = self.booster.inplace_predict(features, validate_features=False)
        return np.asarray(_overhead_drivers(features) @ self.overheads * np.exp(correction), dtype=np.float64)


def cross_validate(features: NDArray[np.float64], measured_ms: NDArray[np.float64], folds: int, seed: int) -> Metrics:
    """Predict each subnet by a model that was fitted without its fold, and compare."""
    fold_of = np.random.default_rng(seed).permutation(len(measured_ms)) % folds
    predicted_ms = np.empty_like(measured_ms)
    for fold in range(folds):
        held_out = fold_of == fold
        model = LatencyModel.fit(features[~held_out], measured_ms[~held_out], seed)
        predicted_ms[held_out] = model.predict(features[held_out])
    return held_out_metrics(predicted_ms, measured_ms)


def _overhead_drivers(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kernel sum in milliseconds, number of kernels, and one; shape (subnets, 3)."""
    return np.column_stack([features[:, KERNEL_SUM], features[:, KERNELS], np.ones(len(features))])
