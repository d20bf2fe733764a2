"""Building and tuning a candidate take minutes, and say how far they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from typing_extensions import override

from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.compiler.tuning import tune
from ofa_tvm.deployment import candidate_builder
from ofa_tvm.deployment.candidate_builder import CandidateBuilder
from ofa_tvm.errors import CompileError
from ofa_tvm.evolution.front import Candidate
from ofa_tvm.reporting import Progress, Silent
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.targets import load_target
from ofa_tvm.training.evaluation import Evaluator

KERNELS = [Workload("pointwise", 8, 16, 4, 4), Workload("pointwise", 16, 8, 4, 4)]


class Counted(Silent):
    """Keeps what is shown: how many calls came, and how far they brought the count."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, str, int]] = []
        self.calls: list[int] = []

    @override
    @contextlib.contextmanager
    def progress(self, total: int, description: str, done: int = 0) -> Iterator[Progress]:
        self.shown.append((total, description, done))
        yield self

    def advance(self, count: int = 1) -> None:
        self.calls.append(count)


def test_tuning_shows_its_progress_after_every_few_outcomes(tmp_path: Path) -> None:
    with open_bench(load_target("null"), tmp_path / "records.jsonl") as bench:
        reporter, again = Counted(), Counted()
        tune(bench, KERNELS, 10, reporter)
        assert reporter.shown == [(2, "tuning kernels", 0)]
        assert sum(reporter.calls) == 2
        assert len(reporter.calls) > 2  # also while a kernel is under way, so that the line does not age
        tune(bench, KERNELS, 10, again)
        assert again.shown == [(2, "tuning kernels", 2)]


def no_more(*_arguments: object) -> NoReturn:
    raise CompileError("no more")


def test_calibrating_and_judging_a_candidate_show_their_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate_builder, "tune", no_more)
    evaluator = Evaluator(find_supernet(DEFAULT_SUPERNET), calibration_images=260, held_out_images=20)
    reporter = Counted()
    candidate = Candidate(evaluator.space.smallest(), 0.3, 1.0)
    with (
        open_bench(load_target("null"), tmp_path / "records.jsonl") as bench,
        pytest.raises(CompileError, match="no more"),
    ):
        CandidateBuilder(evaluator, bench, 1.0, 0, reporter).build(candidate)
    assert reporter.shown == [(3, "calibration and accuracy", 0)]
    assert reporter.calls == [1, 1, 1]
