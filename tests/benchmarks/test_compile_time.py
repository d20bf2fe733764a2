from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


def test_each_step_of_both_processes_is_timed(run_benchmark) -> None:
    code, result, errors = run_benchmark("compile_time.py", "--subnets", "2", "--resolution", "128")
    assert code == 0, errors
    assert len(result["subnets"]) == 2
    *steps, total, imports = result["steps"]
    assert len({row["step"] for row in result["steps"]}) == len(result["steps"])
    for cache in ("empty", "full"):
        assert imports[f"{cache}_first_ms"] > 0
        for subnet in ("first", "median"):
            times_ms = [row[f"{cache}_{subnet}_ms"] for row in steps]
            assert all(time_ms > 0 for time_ms in times_ms)
            assert sum(times_ms) == pytest.approx(total[f"{cache}_{subnet}_ms"])


def test_an_unknown_resolution_is_one_line(run_benchmark) -> None:
    code, _, errors = run_benchmark("compile_time.py", "--resolution", "130")
    assert code == 2
    assert "--resolution 130" in errors.splitlines()[-1]
