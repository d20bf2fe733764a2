from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_the_heaviest_kernels_come_first(run_benchmark, supernet: Path) -> None:
    code, result, errors = run_benchmark("kernels.py", "--supernet", str(supernet), "--repeats", "2", "--top", "3")
    assert code == 0, errors
    rows = result["kernels"]
    assert len(rows) == 3
    shares = [row["share"] for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) < 1
    for row in rows:
        assert row["share"] == pytest.approx(row["count"] * row["ms"] / result["total_ms"])
