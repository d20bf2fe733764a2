from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_both_run_the_same_subnet(run_benchmark, supernet: Path) -> None:
    code, result, errors = run_benchmark(
        "against_onnxruntime.py", "--supernet", str(supernet), "--subnets", "1", "--repeats", "2"
    )
    assert code == 0, errors
    (row,) = result["subnets"]
    assert row["relative_error"] < 1e-4
    assert row["ours_ms"] > 0
    assert row["ratio"] == pytest.approx(row["onnxruntime_ms"] / row["ours_ms"])
    assert row["kernels"] == "modelled"
    assert row["mmac"] > 0.1
    assert result["threads"] == 1
    assert {"cpu", "cpus", "date", "load_before", "load_after"} <= set(result)
    assert {"apache-tvm", "onnxruntime", "ofa_tvm"} <= set(result["versions"])


def test_what_is_no_bundle_is_one_line(run_benchmark, supernet: Path, tmp_path: Path) -> None:
    code, _, errors = run_benchmark("against_onnxruntime.py", "--supernet", str(supernet), str(tmp_path))
    assert code == 2
    assert "is no bundle" in errors.splitlines()[-1]
