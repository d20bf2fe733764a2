from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.slow
def test_from_an_empty_database(run_benchmark, supernet: Path, tmp_path: Path) -> None:
    records = tmp_path / "kept"
    options = ("--supernet", str(supernet), "--resolutions", "32", "--candidates", "2", "--minutes", "0.1")
    extent = ("--subnets", "1", "--repeats", "2", "--records", str(records))
    code, result, errors = run_benchmark("tuning.py", *options, *extent)
    assert code == 0, errors
    (row,) = result["tuning"]
    assert row["resolution"] == 32
    assert row["known_before"] == 0
    assert row["candidates"] > 0
    assert row["candidates_per_minute"] == pytest.approx(row["candidates"] / row["minutes"])
    (subnet,) = result["subnets"]
    assert set(subnet["latencies_ms"]) == {"modelled", "tuned"}
    assert result["times_modelled"] == pytest.approx(
        subnet["latencies_ms"]["modelled"] / subnet["latencies_ms"]["tuned"]
    )
    assert result["metaschedule"] is None
    code, _, errors = run_benchmark("tuning.py", *options, *extent)
    assert code == 2
    assert "not empty, and this starts from nothing" in errors.splitlines()[-1]


def test_records_in_the_place_of_a_file_are_one_line(run_benchmark, supernet: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    code, _, errors = run_benchmark(
        "tuning.py", "--supernet", str(supernet), "--resolutions", "32", "--records", "file"
    )
    assert code == 2
    assert errors.splitlines()[-1] == "error: --records file: a file; name another folder"


def test_an_unknown_resolution_is_one_line(run_benchmark, supernet: Path) -> None:
    code, _, errors = run_benchmark("tuning.py", "--supernet", str(supernet), "--resolutions", "33")
    assert code == 2
    assert "33 is not in this space" in errors.splitlines()[-1]
