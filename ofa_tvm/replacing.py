"""Put a folder in another's place so that, whenever the process is killed, one of the two is there or comes back.

A folder is filled inside a hidden one beside its place, its ``cradle``, which stays locked until all is done. Where the
system can exchange two names at once, there is no moment without a folder. Where it can't, the old one waits in the
cradle while the new one takes its place, and whoever comes next puts it back if that did not happen.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NEW, _OLD, _SUFFIX = "new", "old", ".ofa_tvm-unfinished"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


@contextlib.contextmanager
def cradle_of(path: Path) -> Iterator[Path]:
    """An empty folder that may become `path`, with `put_in_place`; what is left of it in the end is removed."""
    while True:
        cradle = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX))
        with contextlib.ExitStack() as stack:
            try:
                descriptor = stack.enter_context(_opened(cradle))
            except FileNotFoundError:
                continue  # as below, and it has already removed it
            if _lock(descriptor) is False or not cradle.exists():
                continue  # in the moment before it was locked, another process took it for an abandoned one
            try:
                (cradle / _NEW).mkdir()
                yield cradle / _NEW
            finally:
                _end(cradle, path)
            return


def put_in_place(new: Path, path: Path) -> None:
    """Let the folder that `cradle_of` gave be `path`; a folder that is there is replaced.

    Raises
    ------
    OSError
        It can't be, and all will be as it was; NotADirectoryError if `path` is no folder.
    """
    if not os.path.lexists(path):
        new.rename(path)
        return
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file is there", str(path))
    if _exchange(new, path):
        return
    path.rename(new.parent / _OLD)  # the cradle's end puts it back, whatever stops us here
    new.rename(path)


def recover(path: Path) -> None:
    """Put back the folder that a killed process was about to replace, and remove what such processes have left."""
    for cradle in path.parent.glob(f".{_literal(path.name)}.*{_SUFFIX}"):
        with contextlib.suppress(OSError), _opened(cradle) as descriptor:
            if not _lock(descriptor):
                continue
            _end(cradle, path)


def _end(cradle: Path, path: Path) -> None:
    """Remove a cradle; the old folder in it, if nothing has taken its place, goes back there first."""
    if (cradle / _OLD).exists() and not os.path.lexists(path):
        (cradle / _OLD).rename(path)
    shutil.rmtree(cradle, ignore_errors=True)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock an open folder; False if another process has it, None if this file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once; False if this system or file system can't."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    reason = ctypes.get_errno()
    if reason in _CANNOT:
        return False
    raise OSError(reason, os.strerror(reason), str(other))


def _literal(name: str) -> str:
    """A name as a glob pattern that matches it alone."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
