"""What the user's own ``~/.ssh/config`` says of a host; it is read, never written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko

from ofa_tvm.errors import UsageError

MOST_NESTED = 16
_WORDS = re.compile(r"""\s*(\w+)\s*(?:=\s*|\s)\s*(.*?)\s*""")
_ARGUMENT = re.compile(r'"([^"]*)"|(\S+)')


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What ssh would do with a host's name; None and empty where nothing is said.

    Attributes
    ----------
    hostname
        Where it really is.
    identities
        Private keys, or the public parts of those that an agent has.
    identities_only
        Offer those keys alone, not all of the agent's.
    jumps
        ``[user@]host[:port]`` of the hosts to go through, in order.
    proxy_command
        A command whose stdin and stdout are the connection.
    """

    hostname: str
    user: str | None = None
    port: int | None = None
    identities: tuple[Path, ...] = ()
    identities_only: bool = False
    jumps: tuple[str, ...] = ()
    proxy_command: str | None = None


def config_file() -> Path:
    """The user's."""
    return ssh_folder() / "config"


def ssh_folder() -> Path:
    """Where the user keeps keys and what ssh knows; a folder that is not there for a user without a home."""
    try:
        return Path.home() / ".ssh"
    except RuntimeError:
        return Path("/nonexistent/.ssh")


def host_settings(host: str, user: str | None = None, port: int | None = None) -> HostSettings:
    """What the user's file says of a host; a user and a port that are given count before those of the file.

    Raises
    ------
    UsageError
        The file can't be read, or a value in it makes no sense.
    """
    path = config_file()
    try:
        if not path.is_file():
            return HostSettings(host)
        given = ([f"User {user}"] if user else []) + ([f"Port {port}"] if port else [])
        found = paramiko.SSHConfig.from_text("\n".join([*given, *_lines(path, MOST_NESTED)])).lookup(host)
        configured_port = found.get("port")
        jumps = found.get("proxyjump") or "none"
        return HostSettings(
            hostname=found["hostname"],
            user=found.get("user"),
            port=int(configured_port) if configured_port else None,
            identities=tuple(
                Path(name).expanduser() for name in found.get("identityfile", ()) if name.lower() != "none"
            ),
            identities_only=found.get("identitiesonly", "no").lower() in ("yes", "true"),
            jumps=() if jumps.lower() == "none" else tuple(filter(None, re.split(r"\s*,\s*", jumps.strip()))),
            proxy_command=found.get("proxycommand") if jumps.lower() == "none" else None,
        )
    except (
        OSError,
        ValueError,
        LookupError,
        paramiko.SSHException,
    ) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UsageError(f"{path} cannot be read: {reason}; correct it, as `ssh -G {host}` tells where") from error


def _lines(path: Path, deeper: int) -> Iterator[str]:
    """The file's lines, with those of the files that it includes in their place."""
    section = "Host *"
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        words = _WORDS.fullmatch(line)
        keyword = words[1].lower() if words else ""
        if keyword == "include" and words:
            if not deeper:
                raise ValueError(f"files include each other more than {MOST_NESTED} deep")
            for included in _included(words[2]):
                yield from _lines(included, deeper - 1)
            yield section  # the included file may have begun others
            continue
        if keyword in ("host", "match"):
            section = line
        yield line


def _included(patterns: str) -> Iterator[Path]:
    for quoted, plain in _ARGUMENT.findall(patterns):
        pattern = Path(quoted or plain).expanduser()
        folder = Path(pattern.anchor) if pattern.is_absolute() else ssh_folder()
        relative = pattern.relative_to(pattern.anchor) if pattern.is_absolute() else pattern
        yield from sorted(path for path in folder.glob(str(relative)) if path.is_file())
