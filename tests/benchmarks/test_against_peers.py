from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from .conftest import REPOSITORY


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")

    def module(name: str) -> ModuleType:
        return importlib.import_module(name)

    return module


@pytest.mark.slow
def test_all_run_the_same_subnet(run_benchmark, supernet: Path) -> None:
    options = ("--supernet", str(supernet), "--subnets", "1", "--repeats", "2", "--peer", "onnx_runtime")
    code, result, errors = run_benchmark("against_peers.py", *options, "--threads", "1", "--threads", "2")
    assert code == 0, errors
    assert [part["threads"] for part in result["threads"]] == [1, 2]
    for part in result["threads"]:
        (row,) = part["subnets"]
        ours, theirs = row["systems"]["ours"], row["systems"]["onnx_runtime"]
        assert max(ours["relative_error"], theirs["relative_error"]) < 1e-4
        assert ours["median_ms"] >= ours["fastest_ms"] > 0
        assert row["best_peer"] == "onnx_runtime"
        assert row["ratio"] == pytest.approx(theirs["median_ms"] / ours["median_ms"])
        assert part["ratio_mean"] == pytest.approx(row["ratio"]) == part["ratio_worst"]
        assert row["gflops"] == pytest.approx(2 * row["mmac"] / ours["median_ms"])
        assert row["share_of_peak"] == pytest.approx(row["gflops"] / row["peak_gflops"])
        assert row["kernels"] == "modelled"
    assert {"cpu", "cpus", "date", "load_before", "load_after"} <= set(result)
    assert {"apache-tvm", "onnxruntime", "ofa_tvm"} <= set(result["versions"])


@pytest.mark.slow
def test_what_is_no_bundle_is_one_line(run_benchmark, supernet: Path, tmp_path: Path) -> None:
    options = ("--supernet", str(supernet), "--peer", "onnx_runtime", str(tmp_path))
    code, _, errors = run_benchmark("against_peers.py", *options)
    assert code == 2
    assert "is no bundle" in errors.splitlines()[-1]


def test_an_unknown_peer_is_one_line(run_benchmark) -> None:
    code, _, errors = run_benchmark("against_peers.py", "--peer", "tensorflow")
    assert code == 2
    assert "--peer tensorflow: known are onnx_runtime, open_vino" in errors.splitlines()[-1]


@pytest.fixture
def onnx_subnet(benchmarks, tmp_path: Path) -> Path:
    """A folder with a graph that doubles an image, and what it gives."""
    from onnx import TensorProto, helper, save

    files = benchmarks("systems.loaded")
    node = helper.make_node("Add", ["image", "image"], ["logits"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 2, 2)) for name in ("image", "logits")]
    graph = helper.make_graph([node], "double", ends[:1], ends[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / files.MODEL)
    image = np.ones((1, 3, 2, 2), np.float32)
    np.save(tmp_path / files.IMAGE, image)
    np.save(tmp_path / files.LOGITS, 2 * image)
    return tmp_path


def test_what_a_system_takes(benchmarks, onnx_subnet: Path) -> None:
    said: list[str] = []
    found, gflops = benchmarks("turns").race({"onnx_runtime": ""}, onnx_subnet, 1, 3, None, said.append)
    assert found["onnx_runtime"].relative_error == 0
    assert found["onnx_runtime"].median_ms >= found["onnx_runtime"].fastest_ms > 0
    assert (said, gflops) == ([], 0)


def test_wrong_numbers_are_left_out(benchmarks, onnx_subnet: Path) -> None:
    np.save(onnx_subnet / "logits.npy", np.full((1, 3, 2, 2), 2.1, np.float32))
    said: list[str] = []
    assert benchmarks("turns").race({"onnx_runtime": ""}, onnx_subnet, 1, 1, None, said.append)[0] == {}
    (line,) = said
    assert line.startswith("left out: ONNX Runtime: NumericalMismatchError")
    assert "\n" not in line


def test_a_system_that_ends_is_left_out(benchmarks, onnx_subnet: Path) -> None:
    process = benchmarks("system_process")
    with process.SystemProcess("onnx_runtime", "", onnx_subnet, 1) as system:
        system._process.kill()
        with pytest.raises(process.SystemFailedError, match="ONNX Runtime ended with code -9"):
            system.sample_ms()
    assert system._process.poll() is not None


def test_a_peer_that_is_missing_is_not_among_the_installed(benchmarks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks("systems.open_vino"), "PACKAGE", "no-such-package")
    found = benchmarks("system_process").installed(("onnx_runtime", "open_vino"))
    assert list(found) == ["onnx_runtime"]


def test_ratios_are_to_the_best_peer(benchmarks) -> None:
    tables, turns = benchmarks("peer_tables"), benchmarks("turns")
    subject = SimpleNamespace(architecture=SimpleNamespace(resolution=160), macs=100_000_000)

    def row(ours: float, first: float, second: float) -> dict:
        medians = {"ours": ours, "onnx_runtime": first, "open_vino": second}
        found = {name: turns.Found("", ms, ms, 1e-6) for name, ms in medians.items()}
        return tables.subnet_row(subject, "modelled", found, 250.0)

    rows = [row(1.0, 4.0, 2.0), row(2.0, 16.0, 32.0)]
    assert [(r["best_peer"], r["ratio"]) for r in rows] == [("open_vino", 2.0), ("onnx_runtime", 8.0)]
    assert rows[0]["gflops"] == 200
    assert rows[0]["share_of_peak"] == 0.8
    summary = tables.summary(rows)
    assert summary["ratio_mean"] == pytest.approx(4)
    assert summary["ratio_worst"] == 2
    assert summary["ratio_mean_by_peer"]["onnx_runtime"] == pytest.approx(math.sqrt(4 * 8))
    assert summary["share_of_peak_mean"] == pytest.approx(math.sqrt(0.8 * 0.4))
    assert tables.summary([])["ratio_mean"] is None


def test_the_caption_says_which_settings_were_fastest(benchmarks) -> None:
    settings = {"ours": "library.so", "onnx_runtime": "", "torch_compile": "default, channels last"}
    result = {"date": "today", "load_before": 0, "load_after": 0, "cpus": 2, "versions": {"torch": "2"}}
    parts = [{"threads": 1, "settings": {"ours": "library.so"}}, {"threads": 2, "settings": settings}]
    caption = benchmarks("peer_tables")._caption({**result, "threads": parts})
    assert caption.endswith("torch 2; threads 2: torch.compile default, channels last")
