from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from ofa_tvm.errors import OutputError
from ofa_tvm.files import output_errors
from ofa_tvm.refusals import may_execute, refusal


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (errno.ENOSPC, "free some space there, or name another place with --out or --runs"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "allow it, or name another place"),
        (errno.EPERM, "allow it, or name another place"),
        (errno.EROFS, "name another place"),
        (errno.ENOLCK, "this file system has no locks: name another place with --out or --runs on a local disk"),
        (errno.EOPNOTSUPP, "this file system has no locks"),
        (errno.ENOTDIR, "move away what is in the way"),
        (errno.EEXIST, "move away what is in the way"),
        (errno.ENAMETOOLONG, "by a name that this file system takes"),
        (errno.ELOOP, "mend its symbolic links"),
        (errno.EFBIG, "raise the limit on a file's size (ulimit -f)"),
        (errno.EMFILE, "raise the limit on open files (ulimit -n)"),
        (errno.EIO, "see to the disk"),
        (errno.ENXIO, "name another place"),
    ],
)
def test_each_reason_has_its_own_advice(reason, advice, tmp_path):
    with pytest.raises(OutputError) as told, output_errors(tmp_path / "x"):
        raise OSError(reason, os.strerror(reason))
    message = str(told.value)
    assert message.startswith(f"cannot write {tmp_path / 'x'}: {os.strerror(reason)}; ")
    assert advice in message
    assert ("free some space" in message) == (reason in (errno.ENOSPC, errno.EDQUOT))


def test_another_place_is_named_by_what_decides_it(tmp_path, monkeypatch):
    monkeypatch.setenv("OFA_TVM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    error = PermissionError(errno.EACCES, "Permission denied")
    options = {
        tmp_path / "state" / "boards" / "x.json": "OFA_TVM_STATE",
        tmp_path / "cache" / "ofa_tvm" / "wheels": "XDG_CACHE_HOME",
        tmp_path / "runs" / "records.jsonl": "--out or --runs",
        Path("runs"): "--out or --runs",
    }
    for place, option in options.items():
        assert refusal(error, place).endswith(f"name another place with {option}")
    assert refusal(error, tmp_path, "TMPDIR").endswith("name another place with TMPDIR")
    assert refusal(error).endswith("name another place")


def test_noexec_is_seen(tmp_path):
    assert may_execute(tmp_path)
    line = ["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", tmp_path]
    if os.getuid() or subprocess.run(line, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        assert not may_execute(tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
