from __future__ import annotations

import pytest
import typer

from ofa_tvm import options


def test_positive_float_takes_what_is_positive():
    assert options.positive_float(0.5) == 0.5
    assert options.positive_float(None) is None
    with pytest.raises(typer.BadParameter):
        options.positive_float(float("inf"))
