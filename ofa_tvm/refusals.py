"""What the operating system refuses, and what to do about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ofa_tvm.homes import place_option

_ADVICE = {
    (errno.ENOSPC, errno.EDQUOT): "free some space there, or {elsewhere}",
    (errno.EACCES, errno.EPERM): "allow it, or {elsewhere}",
    (errno.EROFS,): "{elsewhere}",
    (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS): "this file system has no locks: {elsewhere} on a local disk",
    (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY): "move away what is in the way, or {elsewhere}",
    (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ): "{elsewhere}, by a name that this file system takes",
    (errno.ELOOP,): "mend its symbolic links, or {elsewhere}",
    (errno.EFBIG,): "raise the limit on a file's size (ulimit -f), or {elsewhere}",
    (errno.EMFILE, errno.ENFILE): "raise the limit on open files (ulimit -n)",
    (errno.EIO, errno.ESTALE): "see to the disk or its connection, or {elsewhere}",
}
_BY_REASON = {reason: advice for reasons, advice in _ADVICE.items() for reason in reasons}


def refusal(error: OSError, place: Path | None = None, option: str | None = None) -> str:
    """Why and what to do next, as in ``Permission denied; allow it, or name another place with --runs``.

    Parameters
    ----------
    place
        The file or folder that could not be written; None if it may have been something to read.
    option
        Option or variable by which another place is named; by default as `ofa_tvm.homes.place_option` says.
    """
    advice = _BY_REASON.get(error.errno or 0, "{elsewhere}")
    option = option or (place_option(place) if place else None)
    elsewhere = "name another place" + (f" with {option}" if option else "")
    return f"{error.strerror or error}; {advice.format(elsewhere=elsewhere)}"


def may_execute(folder: Path) -> bool:
    """Whether compiled code that lies there can be loaded, which it can't where a file system is mounted noexec."""
    return not os.statvfs(folder).f_flag & os.ST_NOEXEC
