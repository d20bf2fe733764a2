"""Tuning a space, called as a stage: on the target null, where nothing is compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from ofa_tvm.compiler import tuning_space
from ofa_tvm.compiler.tuning_search import TuningSettings
from ofa_tvm.compiler.tuning_space import SpaceTuning
from ofa_tvm.compiler.tuning_uses import mean_uses
from ofa_tvm.reporting import Progress, Silent
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import load_target

SPACE = SearchSpace(0.35, 4, (24, 32), depths=(2,), kernel_sizes=(3,), expand_ratios=(3,))


class Counted(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counts: list[int] = []

    @override
    def say(self, text: str) -> None:
        self.lines.append(text)

    @override
    @contextlib.contextmanager
    def progress(self, total: int, description: str, done: int = 0) -> Iterator[Progress]:
        self.counts += [total, done]
        yield self

    def advance(self, count: int = 1) -> None:
        self.counts.append(count)


def _tuning(folder: Path, settings: TuningSettings | None = None) -> SpaceTuning:
    records = folder / "records.jsonl"
    return SpaceTuning(load_target("null"), SPACE, [24, 32], records, settings or TuningSettings(candidates=2))


def test_before_anything_is_measured_the_status_needs_no_device(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path)
    status = tuning.status()
    assert status.all.kernels == tuning.kernels > 10
    assert (status.all.complete, status.all.known, status.all.gain) == (0, 0, None)
    assert list(status.resolutions) == [24, 32]
    assert sum(kind.kernels for kind in status.kinds.values()) == tuning.kernels
    assert str(status.largest) == "the largest subnet at 32 px"
    assert status.largest.kernels_known == 0
    assert not (tmp_path / "records.jsonl").exists()


def test_whoever_calls_is_told_and_finds_all_of_it_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_space, "REPORT_INTERVAL_S", 0.0)
    tuning, told = _tuning(tmp_path), Counted()
    tuning.run(told)
    status = tuning.status()
    assert status.all.complete == status.all.kernels
    assert (status.all.open, status.all.covered) == (0, 1.0)
    assert status.largest.kernels_known == status.largest.kernels
    total, done, *counts = told.counts
    assert (total, done, sum(counts)) == (tuning.kernels, 0, tuning.kernels)
    assert any("the largest subnet at 32 px" in line and "a minute" in line for line in told.lines)
    again = Counted()
    tuning.run(again)
    assert again.counts[:2] == [tuning.kernels, tuning.kernels]


def test_mappings_count_alike() -> None:
    one, other = Workload("pool", 8, 8, 2, 2), Workload("pool", 16, 16, 2, 2)
    assert mean_uses([{one: 1.0}, {one: 2.0, other: 1.0}]) == {one: 1.5, other: 0.5}
