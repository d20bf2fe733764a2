from __future__ import annotations

import pytest


@pytest.mark.slow
def test_a_budget_without_a_profile_is_a_row_with_its_error(run_benchmark, supernet):
    code, result, stderr = run_benchmark("budgets.py", "--target", "null", "--supernet", supernet, "1000")
    assert code == 0
    (row,) = result["budgets"]
    assert row["exit_code"] == 2
    assert "run python -m ofa_tvm.profile --target null first" in row["error"]
    assert row["error"] in stderr
