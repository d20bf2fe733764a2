from __future__ import annotations

import contextlib
import math
from typing import Annotated

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from ofa_tvm.console import new_app, run_app
from ofa_tvm.options import LATENCY, latency_ms, positive_float


def test_positive_float_takes_what_is_positive():
    assert positive_float(0.5) == 0.5
    assert positive_float(None) is None
    with pytest.raises(typer.BadParameter):
        positive_float(float("inf"))


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("30", 30),
        ("0.5", 0.5),
        (".5ms", 0.5),
        ("30 ms", 30),
        ("70us", 0.07),
        ("71us", 0.071),
        ("70\N{MICRO SIGN}s", 0.07),
        ("70\N{GREEK SMALL LETTER MU}s", 0.07),
        ("0.2s", 200),
        ("1e-3s", 1),
        ("7e1us", 0.07),
    ],
)
def test_a_latency_is_in_milliseconds_unless_it_says_otherwise(text, expected_ms):
    assert latency_ms(text) == expected_ms


WRONG = ("0,1", "-1", "0", "0us", "nan", "inf", "1e999", "fast", "", "ms", "30 parsecs", "30 m", "1 0", "0x1f", "30ns")


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_latency_is_named_beside_an_example(text):
    with pytest.raises(typer.BadParameter) as refused:
        latency_ms(text)
    assert repr(text) in str(refused.value)
    assert "0.1ms, 70us" in str(refused.value)


@given(st.text())
def test_whatever_is_typed_is_a_positive_latency_or_refused(text):
    with contextlib.suppress(typer.BadParameter):
        assert 0 < latency_ms(text) < math.inf


def test_the_option_is_the_same_where_it_may_be_left_out():
    app, given = new_app("A probe."), []

    @app.command()
    def probe(latency: Annotated[float | None, LATENCY] = None) -> None:
        given.append(latency)

    for line in ([], ["--latency", "70us"], ["--latency=0.2 s"]):
        assert run_app(app, "probe", line) == 0
    assert given == [None, 0.07, 200]
