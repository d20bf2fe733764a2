from __future__ import annotations

import pytest
import torch

from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.checkpoint import save_supernet
from ofa_tvm.supernet.metadata import DataDescription, SupernetDescription, SupernetFolder, TrainingRecord
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.training.characters import MEAN, STD
from ofa_tvm.training.glyphs import CLASS_NAMES


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace(0.25, len(CLASS_NAMES), (32, 36))


@pytest.fixture(scope="session")
def untrained(space, tmp_path_factory) -> SupernetFolder:
    """An untrained supernet on disk; not to be changed."""
    torch.manual_seed(1)
    description = SupernetDescription(
        name="untrained",
        class_names=CLASS_NAMES,
        mean=MEAN,
        std=STD,
        data=DataDescription(kind="characters", calibration_seed=11, held_out_seed=12),
        training=TrainingRecord(command="", seed=0, batch_size=64, phases=(), finished="2025-01-01", versions={}),
    )
    return save_supernet(tmp_path_factory.mktemp("untrained"), Supernet(space), description)
