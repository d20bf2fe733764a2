"""A candidate with an operator that no kernel template computes; without one, deploy's own tests build them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest
import torch
from typing_extensions import override

from ofa_tvm.compiler.general_search import search
from ofa_tvm.compiler.general_search.database import TuningDatabase
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.compiler.tuning import TuningReport, tune
from ofa_tvm.deployment import candidate_builder
from ofa_tvm.deployment.candidate_builder import CandidateBuilder
from ofa_tvm.evolution.front import Candidate
from ofa_tvm.reporting import Reporter, Silent
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.targets import load_target
from ofa_tvm.training.evaluation import Evaluator


class WithSoftmax(Evaluator):
    """Subnets that end in probabilities."""

    @override
    def calibrated(self, architecture: Architecture, on_batch: Callable[[], None] = lambda: None) -> torch.nn.Module:
        return torch.nn.Sequential(super().calibrated(architecture, on_batch), torch.nn.Softmax(1)).eval()


class Told(Silent):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @override
    def say(self, text: str) -> None:
        self.lines.append(text)


def in_no_time(bench: KernelBench, workloads: Iterable[Workload], _minutes: float, _reporter: Reporter) -> TuningReport:
    return tune(bench, workloads, 0)


@pytest.mark.slow
def test_operators_without_a_template_are_searched_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BATCH", 4)
    monkeypatch.setattr(search, "POPULATION", 4)
    target = load_target("local")
    quick = target.measurement.model_copy(update={"repeats": 2, "min_repeat_ms": 0.1, "max_drift": 1e6})
    evaluator = WithSoftmax(find_supernet(DEFAULT_SUPERNET), calibration_images=20, held_out_images=20)
    candidate = Candidate(evaluator.space.smallest(), 0.3, 0.05)
    reporter = Told()
    with open_bench(target.model_copy(update={"measurement": quick}), tmp_path / "records.jsonl") as bench:
        CandidateBuilder(evaluator, bench, 1.0, 0, reporter).build(candidate)
        assert not bench.searched.exists()  # no time for it, so by the default schedule
        monkeypatch.setattr(candidate_builder, "tune", in_no_time)  # so that all of it is left for the search
        monkeypatch.setattr(search, "search_leftovers", partial(search.search_leftovers, trials=4))
        built = CandidateBuilder(evaluator, bench, 1.0, 5, reporter).build(candidate)
        assert TuningDatabase(bench.searched).records.get_all_tuning_records()
    assert built.lowered.sample_output.sum() == pytest.approx(1, abs=1e-5)  # what build compared the library's with
    (said,) = {line for line in reporter.lines if line.startswith("no kernel template for")}
    assert "softmax" in said


@pytest.mark.slow
def test_kernels_and_operators_share_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuning the kernels takes all of it, so nothing is searched."""
    evaluator = WithSoftmax(find_supernet(DEFAULT_SUPERNET), calibration_images=20, held_out_images=20)
    reporter = Told()
    with open_bench(load_target("local"), tmp_path / "records.jsonl") as bench:
        CandidateBuilder(evaluator, bench, 1.0, 0.01, reporter).build(Candidate(evaluator.space.smallest(), 0.3, 0.05))
        assert not bench.searched.exists()
    (said,) = {line for line in reporter.lines if line.startswith("no kernel template for")}
    assert "softmax" in said
    assert said.endswith("compiled by default, for tuning the kernels took all the time")
