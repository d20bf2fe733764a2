from __future__ import annotations

from pathlib import Path

import pytest

from ofa_tvm.errors import UsageError
from ofa_tvm.workspace import Workspace


@pytest.mark.parametrize("name", ["../../x", "..", ".", "/etc", "a/b"])
def test_a_name_that_is_a_path_leads_nowhere(name):
    with pytest.raises(UsageError, match=r"target .* is no name"):
        Workspace(Path("runs"), name, "characters")
    with pytest.raises(UsageError, match=r"supernet .* is no name"):
        Workspace(Path("runs"), "local", name)


def test_a_name_is_not_that_of_what_lies_beside_it():
    with pytest.raises(UsageError, match="target 'supernets': the folder of that name holds something else"):
        Workspace(Path("runs"), "supernets", "characters")
    for name in ("records.jsonl", "records.lock", "kernels", "metaschedule"):
        with pytest.raises(UsageError, match=f"supernet '{name}': .*give the supernet another name"):
            Workspace(Path("runs"), "local", name)


def test_a_target_has_a_name_and_a_supernet_may_have_none():
    with pytest.raises(UsageError, match=r"target '' is no name"):
        Workspace(Path("runs"), "", "characters")
    assert Workspace(Path("runs"), "local", "").records == Path("runs/local/records.jsonl")


def test_all_files_are_below_the_root():
    workspace = Workspace(Path("runs"), "rasp4-emulated", "w1.0+x")
    for path in (workspace.records, workspace.latency_predictor, workspace.bundle(0.5)):
        assert path.is_relative_to("runs/rasp4-emulated")
