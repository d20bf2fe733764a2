from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ofa_tvm.errors import OutputError
from ofa_tvm.measurement.local_farm import local_farm
from ofa_tvm.targets import load_target


def test_a_temporary_folder_where_nothing_can_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Before anything is compiled; the loader says only that it failed to map a segment."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    with pytest.raises(OutputError, match=f"{tmp_path} is mounted noexec: .* name another place with TMPDIR"):
        local_farm(load_target("local")).__enter__()
    assert not list(tmp_path.iterdir())
