from __future__ import annotations

import numpy as np
import pytest

from ofa_tvm.errors import NumericalMismatchError
from ofa_tvm.lowering.check import check_outputs, relative_error


def test_the_error_is_relative_to_the_largest_expected_value() -> None:
    expected, actual = np.array([[1.0, -4.0, 0.0]]), np.array([[1.0, -4.0, 0.002]])
    assert relative_error(expected, actual) == pytest.approx(0.0005)
    assert check_outputs("library", expected, actual, tolerance=1e-3) == pytest.approx(0.0005)


def test_the_message_names_stage_error_tolerance_and_place() -> None:
    expected, actual = np.array([[1.0, -4.0, 0.0]]), np.array([[1.0, -4.0, 0.002]])
    with pytest.raises(
        NumericalMismatchError, match=r"^library: .*5\.00e-04 .*1e-04; largest at \(0, 2\): 0\.002, expected 0"
    ):
        check_outputs("library", expected, actual)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["expected", "actual"])
def test_what_is_not_finite_never_passes(bad: float, side: str) -> None:
    arrays = {"expected": np.ones((1, 3), np.float32), "actual": np.ones((1, 3), np.float32)}
    arrays[side][0, 1] = bad
    with pytest.raises(NumericalMismatchError, match=r"not finite at \(0, 1\)"):
        check_outputs("library", **arrays)


def test_zeros_are_compared_absolutely() -> None:
    assert relative_error(np.zeros(2), np.array([0.0, 0.5])) == 0.5


def test_another_shape_never_passes() -> None:
    with pytest.raises(NumericalMismatchError, match=r"\(3,\), expected \(1, 3\)"):
        check_outputs("library", np.ones((1, 3)), np.ones(3))
