"""Files: never half-written, append-only JSON Lines, digests, contained paths, folders that come with the package."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ofa_tvm.errors import InvalidRecordError, OutputError
from ofa_tvm.refusals import refusal
from ofa_tvm.replacing import cradle_of, put_in_place, recover


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write below `path` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {refusal(error, path)}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    Raises
    ------
    OutputError
        The file can't be written (disk full, read-only, a directory is in the way).
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())


@contextlib.contextmanager
def directory_atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary directory that becomes `path` if the body succeeds and vanishes if it does not.

    An existing `path` is replaced as a whole, and only at the end; what a killed process has left is put right first.

    Raises
    ------
    OutputError
        The directory can't be written.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover(path)
        with cradle_of(path) as temporary:
            yield temporary
            put_in_place(temporary, path)


def append_json_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one record to a JSON Lines file, as `append_json_lines`."""
    append_json_lines(path, [record])


def append_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append records to a JSON Lines file at once, locked against other writers and flushed to the disk.

    A last line torn by an earlier kill is cut off first, so that no record is glued to it.

    Raises
    ------
    OutputError
        The file can't be written; it then ends where it ended before.
    """
    lines = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records).encode()
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a buffer would write what is left of a refused line when it is closed, behind the truncation.
        with path.open("a+b", buffering=0) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            end = _end_of_last_whole_line(stream)
            stream.truncate(end)
            try:
                left = memoryview(lines)
                while left:
                    left = left[stream.write(left) :]
                os.fsync(stream.fileno())
            except OSError:
                os.truncate(path, end)
                raise


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSON Lines file; a missing file has no records, and a torn last line is left out.

    Raises
    ------
    InvalidRecordError
        A line other than the last is not a JSON object; one with NaN or Infinity is none.
    """
    if not path.exists():
        return []
    records = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = parse_json(line)
        except NotANumberError as error:
            raise InvalidRecordError(f"{path}, line {number}: {error}; remove the line or the file") from error
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise InvalidRecordError(f"{path}, line {number}: not a JSON object; remove the line or the file")
        records.append(record)
    return records


class NotANumberError(ValueError):
    """A constant of Python's JSON that is none of JSON's."""


def parse_json(text: str | bytes) -> Any:
    """What JSON says; Python would read NaN and Infinity, too.

    Raises
    ------
    NotANumberError
        It holds such a constant.
    ValueError
        It is no JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except NotANumberError as error:
        field = ".".join(_to_the_first_constant(json.loads(text)) or ())
        raise NotANumberError(f"{field}: {error}" if field else str(error)) from None


def _refuse(constant: str) -> None:
    raise NotANumberError(f"{constant} is no number")


def _to_the_first_constant(value: Any) -> list[str] | None:
    """The keys and positions that lead to the first number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, content in inner:
        if (way := _to_the_first_constant(content)) is not None:
            return [str(key), *way]
    return None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def inside(folder: Path, relative: str) -> Path:
    """The path of `relative` below `folder`.

    Raises
    ------
    OutputError
        The path is absolute or leaves the folder.
    """
    path = (folder / relative).resolve()
    if Path(relative).is_absolute() or not path.is_relative_to(folder.resolve()):
        raise OutputError(f"{relative!r} leaves {folder}; use a path inside it")
    return path


def _end_of_last_whole_line(stream: Any) -> int:
    """Offset just behind the last newline, in bytes."""
    size = stream.seek(0, os.SEEK_END)
    block = 1 << 16
    while size > 0:
        start = max(0, size - block)
        stream.seek(start)
        newline = stream.read(size - start).rfind(b"\n")
        if newline >= 0:
            return int(start + newline + 1)
        size = start
    return 0


def shipped_folder(name: str) -> Path:
    """A folder that lies beside the package in the repository, and inside it when it is installed."""
    package = Path(__file__).parent
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name
