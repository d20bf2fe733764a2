"""Reading files of host keys as OpenSSH does: what is unknown in them is passed over, never the whole file."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
from paramiko.pkey import UnknownKeyType

from ofa_tvm.errors import HostKeyError

REVOKED = "@revoked"


@dataclass(frozen=True, slots=True)
class KnownHost:
    """A line of such a file that is about one host.

    Attributes
    ----------
    key
        None if the line is damaged.
    revoked
        The key must not be accepted any more.
    """

    path: Path
    number: int
    key: paramiko.PKey | None
    revoked: bool

    def __str__(self) -> str:
        return f"{self.path}, line {self.number}"


def known_hosts(path: Path, name: str) -> Iterator[KnownHost]:
    """The lines about a host, in order; certificate authorities and types of key that are unknown here are left out.

    Raises
    ------
    HostKeyError
        The file can't be read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostKeyError(f"{path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        words = line.decode("utf-8", errors="replace").split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if not words or words[0].startswith("#") or marker not in ("", REVOKED) or not _is_about(words[0], name):
            continue
        try:
            key = paramiko.PKey.from_type_string(words[1], base64.b64decode(words[2], validate=True))
        except UnknownKeyType:
            continue
        except (IndexError, ValueError, binascii.Error, paramiko.SSHException):
            yield KnownHost(path, number, None, revoked=False)
        else:
            yield KnownHost(path, number, key, revoked=marker == REVOKED)


def _is_about(patterns: str, name: str) -> bool:
    """Whether a line's names, which may be hashed, patterns, or excepted with ``!``, are those of a host."""
    found = False
    for pattern in patterns.split(","):
        if pattern.startswith("|1|"):
            found = found or _is_hash_of(pattern, name)
        elif pattern.startswith("!"):
            if _matches(pattern[1:], name):
                return False
        else:
            found = found or _matches(pattern, name)
    return found


def _matches(pattern: str, name: str) -> bool:
    literal = pattern.replace("[", "[[]")  # brackets stand around a host before its port
    return fnmatch.fnmatchcase(name.lower(), literal.lower())


def _is_hash_of(pattern: str, name: str) -> bool:
    try:
        return hmac.compare_digest(paramiko.HostKeys.hash_host(name, pattern).encode(), pattern.encode())
    except (ValueError, AssertionError, IndexError):
        return False
