"""How far predictions are from measurements, on subnets that were not used for fitting."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ofa_tvm.errors import UsageError


@dataclass(frozen=True, slots=True)
class Metrics:
    """Errors and rank correlations of held-out predictions.

    Attributes
    ----------
    count
        Number of held-out subnets.
    mae, rmse, worst_error
        Mean absolute, root mean square and largest absolute error, in the unit of the measurement.
    mape
        Mean absolute error relative to the measurement, as a fraction, over the measurements above 0.
    spearman, kendall
        Rank correlation, 1 for the same order; 0 where all predictions or all measurements are equal.
    """

    count: int
    mae: float
    rmse: float
    mape: float
    worst_error: float
    spearman: float
    kendall: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; `Metrics(**d)` is the way back."""
        return asdict(self)


def held_out_metrics(predicted: ArrayLike, measured: ArrayLike) -> Metrics:
    """Compare predictions with measurements, both of shape (subnets,), measurements not negative.

    Raises
    ------
    UsageError
        Fewer than two subnets, shapes that differ, or a measurement that is negative or not finite.
    """
    predictions = np.asarray(predicted, dtype=np.float64)
    measurements = np.asarray(measured, dtype=np.float64)
    if predictions.shape != measurements.shape or predictions.ndim != 1 or len(predictions) < 2:
        raise UsageError(
            f"{predictions.shape} predictions for {measurements.shape} measurements: "
            "metrics need one prediction for each of at least 2 subnets"
        )
    if not (np.isfinite(measurements).all() and (measurements >= 0).all()):
        raise UsageError("a measurement is negative or not finite; remove its record and measure again")
    errors = np.abs(predictions - measurements)
    above = measurements > 0
    return Metrics(
        count=len(errors),
        mae=float(errors.mean()),
        rmse=float(np.sqrt(np.mean(errors**2))),
        mape=float(np.mean(errors[above] / measurements[above])) if above.any() else 0.0,
        worst_error=float(errors.max()),
        spearman=_rank_correlation(stats.spearmanr, predictions, measurements),
        kendall=_rank_correlation(stats.kendalltau, predictions, measurements),
    )


def _rank_correlation(statistic: Any, predictions: ArrayLike, measurements: ArrayLike) -> float:
    # scipy warns and answers NaN for constants, and JSON has no NaN.
    if np.ptp(predictions) == 0 or np.ptp(measurements) == 0:
        return 0.0
    return float(statistic(predictions, measurements).statistic)
