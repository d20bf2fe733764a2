"""The numerical check between two stages of lowering."""

from __future__ import annotations

import numpy as np

from ofa_tvm.errors import NumericalMismatchError

TOLERANCE = 1e-4


def relative_error(expected: np.ndarray, actual: np.ndarray) -> float:
    """Largest absolute difference over the largest absolute expected value; NaN where either has one.

    Relative to the largest value and not element by element, because logits near zero carry no meaning of their own.
    """
    difference = float(np.max(np.abs(actual.astype(np.float64) - expected)))
    scale = float(np.max(np.abs(expected)))
    return difference / scale if scale > 0 or np.isnan(scale) else difference


def check_outputs(stage: str, expected: np.ndarray, actual: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Compare a stage's outputs with those of the stage before it.

    Parameters
    ----------
    stage
        Name of the stage that computed `actual`, for the message.
    expected, actual
        Outputs of the same shape.
    tolerance
        Largest `relative_error` allowed.

    Returns
    -------
    float
        The relative error.

    Raises
    ------
    NumericalMismatchError
        The shapes differ, the error exceeds the tolerance, or an output is not finite.
    """
    if expected.shape != actual.shape:
        raise NumericalMismatchError(f"{stage}: outputs have the shape {actual.shape}, expected {expected.shape}")
    finite = np.isfinite(actual) & np.isfinite(expected)
    if not finite.all():
        worst = _index(~finite)
        raise NumericalMismatchError(
            f"{stage}: not finite at {worst}: {actual[worst]}, expected {expected[worst]}; "
            "check the subnet's weights and BN statistics"
        )
    error = relative_error(expected, actual)
    if error > tolerance:
        worst = _index(np.abs(actual - expected))
        raise NumericalMismatchError(
            f"{stage}: relative error {error:.2e} exceeds the tolerance {tolerance:.0e}; largest at {worst}: "
            f"{actual[worst]:.6g}, expected {expected[worst]:.6g}"
        )
    return error


def _index(magnitudes: np.ndarray) -> tuple[int, ...]:
    """Index of the largest element."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(magnitudes)), magnitudes.shape))
