"""A tiny supernet on disk, and a way to run a benchmark as its user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.checkpoint import save_supernet
from ofa_tvm.supernet.metadata import DataDescription, SupernetDescription, TrainingRecord
from ofa_tvm.supernet.network import Supernet

REPOSITORY = Path(__file__).parents[2]
SPACE = SearchSpace(0.35, 4, (32,), depths=(2,), kernel_sizes=(3,), expand_ratios=(3,))


@pytest.fixture(scope="session")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supernet")
    description = SupernetDescription(
        name="tiny",
        class_names=("A", "B", "C", "D"),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        data=DataDescription(kind="characters", calibration_seed=1, held_out_seed=2),
        training=TrainingRecord(command="none", seed=0, batch_size=1, phases=(), finished="2026-01-01", versions={}),
    )
    save_supernet(folder, Supernet(SPACE), description)
    return folder


@pytest.fixture
def run_benchmark(tmp_path: Path) -> Callable[..., tuple[int, dict, str]]:
    """Exit code, JSON and stderr of a benchmark."""

    def run(script: str, *options: str) -> tuple[int, dict, str]:
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "benchmarks" / script), "--json", *options],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            timeout=840,
        )
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr

    return run
