from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ofa_tvm.boards.emulation.requirements import require_host
from ofa_tvm.errors import EmulationError

from ..processes import await_true, lives, send
from .conftest import REPOSITORY

LIMIT_S = 840
WAYS = ["process", "python", "native", "tunnel"]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folders for what a benchmark keeps for a while. At the end they must be empty, and none of its processes left."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("OFA_TVM_STATE", str(tmp_path / "state"))
    yield temporary

    def ours() -> list[psutil.Process]:
        found = [process for process in psutil.process_iter() if variable(process, "TMPDIR") == str(temporary)]
        return [process for process in found if lives(process)]

    try:
        await_true(lambda: not ours(), 20, what="a process was left running")
    finally:
        send(ours())
    assert not list(temporary.iterdir())
    assert not list((tmp_path / "state").glob("boards/*.json"))
    assert not list((tmp_path / "state").glob("emulated/*/*"))


def variable(process: psutil.Process, name: str) -> str | None:
    try:
        return process.environ().get(name)
    except psutil.Error:
        return None


@pytest.mark.slow
def test_all_figures_in_a_minute(run_benchmark, supernet: Path, places: Path) -> None:
    try:
        require_host()
    except EmulationError as error:
        if os.environ.get("OFA_TVM_REQUIRE_EMULATION") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    code, result, errors = run_benchmark("farm.py", "--supernet", str(supernet), "--quick")
    assert code == 0, errors
    assert [(row["protocol"], row["devices"]) for row in result["farm"]] == [
        (protocol, devices) for protocol in ("short", "with pauses") for devices in (1, 2)
    ]
    for row in result["farm"]:
        assert row["emulated"] is True
        assert row["per_minute"] > 0
        assert row["references"] >= 2 * row["devices"]  # before and after what each device has measured
    assert [row["way"] for row in result["rpc"]] == WAYS
    for row in result["rpc"]:
        assert row["measurement_ms"] > row["overhead_ms"]
    assert min(row["round_trip_ms"] for row in result["rpc"][1:]) > 0
    assert result["rpc"][-1]["times_direct"] > 0
    assert {"cpu", "cpus", "date", "versions", "load_before", "load_after"} <= set(result)


@pytest.mark.slow
def test_without_root_it_says_what_is_left_out(supernet: Path, places: Path) -> None:
    nobody = ["unshare", "--user"] if os.geteuid() == 0 else []
    script = REPOSITORY / "benchmarks" / "farm.py"
    done = subprocess.run(
        [*nobody, sys.executable, script, "--json", "--quick", "--supernet", supernet],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert "farm" not in result
    assert [row["way"] for row in result["rpc"]] == WAYS[:2]
    left_out = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 2
    assert all("root" in line for line in left_out)


def test_rows_are_medians_of_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    tables, ways, scaling = map(importlib.import_module, ("farm_tables", "farm_ways", "farm_scaling"))

    def one_pass(latency_ms: float, took_ms: float) -> object:
        calls = {name: ways.Call(took_ms, 8.0, factor * latency_ms) for name, factor in (("a", 1), ("b", 10))}
        return ways.Pass(connect_ms=5, upload_ms=6, round_trips_ms=(1.0, 2.0, 9.0), calls=calls, per_minute=60)

    passes = {
        "process": [one_pass(1.0, 9.0), one_pass(1.0, 9.0)],
        "python": [one_pass(1.2, 10.0), one_pass(1.0, 10.0)],
        "native": [one_pass(1.0, 10.0), one_pass(1.0, 10.0)],
        "tunnel": [one_pass(1.0, 15.0), one_pass(1.0, 25.0)],
    }
    rows = {row["way"]: row for row in tables.way_rows(passes)}
    assert rows["process"]["overhead_ms"] == 1
    assert rows["python"]["latency_ratio"] == pytest.approx(1.1)
    assert rows["python"]["round_trip_ms"] == 2
    assert rows["tunnel"]["overhead_ms"] == 12
    assert rows["tunnel"]["times_direct"] == 2
    assert "times_direct" not in rows["python"]

    found = {("short", 1): [scaling.Rate(10, 2), scaling.Rate(30, 2), scaling.Rate(20, 2)]}
    one, two = tables.scaling_rows(found | {("short", 2): [scaling.Rate(50, 9)]})
    assert (one["per_minute"], one["times_one"], one["references"]) == (20, 1, 2)
    assert (two["per_minute"], two["times_one"], two["references"]) == (50, 2.5, 9)
