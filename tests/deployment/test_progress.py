"""Tuning a candidate takes minutes, and says how far it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from ofa_tvm.compiler.kernel_bench import open_bench
from ofa_tvm.compiler.tuning import tune
from ofa_tvm.reporting import Progress, Silent
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import load_target

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
