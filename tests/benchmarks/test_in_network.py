from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_call_has_its_time(run_benchmark, supernet: Path) -> None:
    code, result, errors = run_benchmark("in_network.py", "--supernet", str(supernet), "--repeats", "3")
    assert code == 0, errors
    calls, total = result["calls"], result["total"]
    assert total["calls"] == len(calls) == sum(kind["calls"] for kind in result["kinds"])
    assert total["us"] == pytest.approx(sum(call["us"] for call in calls))
    assert all(call["us"] > 0 for call in calls)
    assert {"conv", "depthwise", "pointwise", "product", "pool", "layout"} <= {kind["kind"] for kind in result["kinds"]}
    assert calls[0]["kind"] == "conv"
    assert 0 < 1e3 * total["mflop"] / total["us"] < result["peak_gflops"]
    assert all(call["alone_us"] is None for call in calls)  # there are no records


def test_a_subnet_that_is_not_there(run_benchmark, supernet: Path) -> None:
    code, _, errors = run_benchmark("in_network.py", "--supernet", str(supernet), "--resolution", "33")
    assert code == 2
    assert "33" in errors.strip().splitlines()[-1]
