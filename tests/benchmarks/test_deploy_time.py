from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from ofa_tvm.errors import UsageError

from .conftest import REPOSITORY


def test_without_a_profile_it_is_one_line(run_benchmark, supernet: Path) -> None:
    code, _, errors = run_benchmark("deploy_time.py", "--target", "null", "--supernet", str(supernet))
    assert code == 2
    assert "run python -m ofa_tvm.profile --target null first" in errors.splitlines()[-1]


def test_without_a_measured_subnet_there_are_no_budgets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    with pytest.raises(UsageError, match=r"has no subnet of null; run python -m ofa_tvm\.profile"):
        importlib.import_module("deploy_time")._budgets_ms(tmp_path / "records.jsonl", "null", 3)
