from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_tvm import files
from ofa_tvm.errors import InvalidRecordError, OutputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "file"
    files.write_atomic(path, b"old")
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_what_is_written_is_for_whom_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.write_atomic(tmp_path / "file", b"")
        files.append_json_line(tmp_path / "records.jsonl", {})
        with files.directory_atomic(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "records.jsonl", "folder")] == [
        0o666 & ~umask,
        0o666 & ~umask,
        0o777 & ~umask,
    ]


def test_a_shared_folder_passes_its_group_on(tmp_path):
    """The bit that lets a group work in it is inherited, also by a folder that is put in another's place."""
    tmp_path.chmod(0o2770)
    for _ in range(2):
        with files.directory_atomic(tmp_path / "bundle"):
            pass
    assert (tmp_path / "bundle").stat().st_mode & 0o2000


def test_a_failed_write_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_atomic(path, b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--out"):
        files.write_json(tmp_path / "file" / "below", {})


def test_write_json(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2.5, None]}


def test_directory_appears_as_a_whole(tmp_path):
    path = tmp_path / "bundle"
    with files.directory_atomic(path) as temporary:
        (temporary / "one").write_text("1")
        assert not path.exists()
    assert names(path) == ["one"]
    with files.directory_atomic(path) as temporary:
        (temporary / "two").write_text("2")
        assert names(path) == ["one"]
    assert names(path) == ["two"]
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
def test_an_abandoned_directory_vanishes(tmp_path, exception):
    path = tmp_path / "bundle"
    with files.directory_atomic(path) as temporary:
        (temporary / "old").write_text("")
    with pytest.raises(exception), files.directory_atomic(path) as temporary:
        (temporary / "new").write_text("")
        raise exception
    assert names(path) == ["old"]
    assert names(tmp_path) == ["bundle"]


def test_records_round_trip(tmp_path):
    path = tmp_path / "deep" / "records.jsonl"
    assert files.read_json_lines(path) == []
    records = [{"a": 1}, {"b": "line\nbreak"}, {"c": [1.5, None]}]
    for record in records:
        files.append_json_line(path, record)
    assert files.read_json_lines(path) == records


def test_many_records_are_written_at_once_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "records.jsonl"
    files.append_json_lines(path, [{"a": 1}, {"b": 2}])
    files.append_json_lines(path, [])
    assert files.read_json_lines(path) == [{"a": 1}, {"b": 2}]

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        files.append_json_lines(path, [{"c": 3}, {"d": 4}])
    assert files.read_json_lines(path) == [{"a": 1}, {"b": 2}]


@given(st.integers(min_value=1, max_value=80))
def test_a_torn_last_line_is_left_out_and_then_cut_off(tmp_path_factory, kept):
    path = tmp_path_factory.mktemp("torn") / "records.jsonl"
    whole = [{"index": index, "text": "x" * 20} for index in range(3)]
    for record in whole:
        files.append_json_line(path, record)
    content = path.read_bytes()
    torn = content[: min(kept, len(content))]
    path.write_bytes(torn)
    survivors = whole[: torn.count(b"\n")]
    assert files.read_json_lines(path) == survivors
    files.append_json_line(path, {"next": True})
    assert files.read_json_lines(path) == [*survivors, {"next": True}]


def test_a_torn_line_longer_than_a_read_block(tmp_path):
    path = tmp_path / "records.jsonl"
    files.append_json_line(path, {"a": 1})
    with path.open("ab") as stream:
        stream.write(b"x" * 200_000)
    files.append_json_line(path, {"b": 2})
    assert files.read_json_lines(path) == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("damage", [b"{nonsense\n", b"[1]\n", b"\n", b"\xff\xfe\n"])
def test_damage_before_the_end_names_the_line(tmp_path, damage):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"a":1}\n' + damage + b'{"b":2}\n')
    with pytest.raises(InvalidRecordError, match=r"records\.jsonl, line 2"):
        files.read_json_lines(path)


def test_a_failed_append_leaves_the_records_as_they_were(tmp_path, monkeypatch):
    path = tmp_path / "records.jsonl"
    files.append_json_line(path, {"a": 1})
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError):
        files.append_json_line(path, {"b": 2})
    assert path.read_bytes() == before


def _append_many(path, writer):
    for index in range(25):
        files.append_json_line(path, {"writer": writer, "index": index, "padding": "x" * 500})


def test_writers_do_not_mix_their_lines(tmp_path):
    path = tmp_path / "records.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path, writer)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    records = files.read_json_lines(path)
    for writer in range(3):
        assert [r["index"] for r in records if r["writer"] == writer] == list(range(25))


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    assert files.sha256(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()


def test_inside(tmp_path):
    assert files.inside(tmp_path, "a/../b") == tmp_path.resolve() / "b"


@pytest.mark.parametrize("relative", ["../a", "/etc/passwd", "a/../../b"])
def test_paths_that_leave_the_folder(tmp_path, relative):
    with pytest.raises(OutputError, match="leaves"):
        files.inside(tmp_path, relative)


def test_links_that_leave_the_folder(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "link").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="leaves"):
        files.inside(tmp_path / "bundle", "link/secret")


def test_a_line_that_the_disk_refuses_half_way_leaves_no_part(tmp_path):
    """A limit on the size of files stands for a full disk; the record is longer than what is left."""
    path = tmp_path / "records.jsonl"
    files.append_json_line(path, {"number": 1})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OutputError, match="File too large"):
            files.append_json_line(path, {"text": "x" * 20_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
