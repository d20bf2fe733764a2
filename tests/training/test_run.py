"""Training as a stage: callable without a command."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.metadata import find_supernet
from ofa_tvm.training.phases import progressive_shrinking
from ofa_tvm.training.run import train_supernet
from ofa_tvm.training.streams import CALIBRATION_SEED, HELD_OUT_SEED


def test_a_trained_supernet_says_how_it_came_to_be(space, tmp_path):
    phases = progressive_shrinking(space, 1e-9)
    folder = train_supernet("tiny", space, phases, tmp_path, seed=3, command="train it")
    assert folder == find_supernet(str(tmp_path / "supernet"))
    load_supernet(folder)
    metadata = folder.metadata
    assert (metadata.name, metadata.space) == ("tiny", space)
    assert (metadata.training.seed, metadata.training.command) == (3, "train it")
    assert [phase.name for phase in metadata.training.phases] == [phase.name for phase in phases]
    assert metadata.training.finished
    assert (metadata.data.calibration_seed, metadata.data.held_out_seed) == (CALIBRATION_SEED, HELD_OUT_SEED)


def test_a_name_that_is_a_path_is_refused_before_the_training(space, tmp_path):
    with pytest.raises(ValidationError, match="name"):
        train_supernet("../../x", space, progressive_shrinking(space), tmp_path / "run")
    assert not (tmp_path / "run").exists()
