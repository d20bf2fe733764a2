"""Is the board the one it was? Its SSH host key against what is known, before anything is sent to it."""

from __future__ import annotations

import re
from pathlib import Path

import paramiko

from ofa_tvm.errors import HostKeyError
from ofa_tvm.files import write_atomic
from ofa_tvm.locks import folder_locked

_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")


def fingerprint(key: paramiko.PKey) -> str:
    """As OpenSSH writes it: ``SHA256:`` and base64 without padding."""
    return str(key.fingerprint)


def forget_host(own: Path, name: str) -> None:
    """Remove a host from a file of ours, as when the board is gone and its address may be given to another."""
    if not own.exists():
        return
    with folder_locked(own.parent, f"changes {own}"):
        lines = own.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if line.split(b" ", 1)[0] != name.encode()]
        if kept != lines:
            write_atomic(own, b"".join(kept))


class KnownHosts:
    """A file of our own, which is written to, and after it the user's, which is only read."""

    def __init__(self, own: Path, users: Path | None = None) -> None:
        self._own = own
        self._files = [own, users or Path.home() / ".ssh" / "known_hosts"]

    def algorithms(self, name: str, offered: tuple[str, ...]) -> list[str]:
        """The algorithms to ask the board for, those first of which its key is known."""
        _, keys = self._known(name)
        preferred = [
            algorithm for kind in keys for algorithm in ((*_RSA_SIGNATURES,) if kind == "ssh-rsa" else (kind,))
        ]
        known = [algorithm for algorithm in preferred if algorithm in offered]
        return known + [algorithm for algorithm in offered if algorithm not in known]

    def check(self, name: str, key: paramiko.PKey, accept: str | None) -> None:
        """Accept a key that is known, or one that is unknown and has the fingerprint `accept`, which is then kept.

        Raises
        ------
        HostKeyError
            The key is unknown and not the accepted one, or another key is known.
        """
        path, keys = self._known(name)
        if keys:
            self._compare(name, key, path, keys)
            return
        if accept is None:
            raise HostKeyError(
                f"the host key of {name} is unknown: {key.get_name()} {fingerprint(key)}; compare it with what"
                " `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` (or its type's) prints on the board, then add"
                f" --accept-host-key {fingerprint(key)}"
            )
        if not _FINGERPRINT.fullmatch(accept):
            raise HostKeyError(f"--accept-host-key {accept!r} is no fingerprint; one is like {fingerprint(key)}")
        if accept.rstrip("=") != fingerprint(key):
            raise HostKeyError(
                f"the host key of {name} is {key.get_name()} {fingerprint(key)}, not the accepted {accept};"
                " nothing was sent there; compare it with the one on the board"
            )
        self._keep(name, key)

    def _known(self, name: str) -> tuple[Path, dict[str, paramiko.PKey]]:
        """The file that knows the host, and its keys there by type; the first file that does counts."""
        for path in self._files:
            hosts = paramiko.HostKeys()
            try:
                if path.exists():
                    hosts.load(str(path))
            except (OSError, UnicodeDecodeError, paramiko.hostkeys.InvalidHostKey) as error:
                raise HostKeyError(_complaint(path, error)) from error
            keys = hosts.lookup(name)
            if keys:
                return path, dict(keys.items())
        return self._own, {}

    @staticmethod
    def _compare(name: str, key: paramiko.PKey, path: Path, keys: dict[str, paramiko.PKey]) -> None:
        known = keys.get(key.get_name(), next(iter(keys.values())))
        if known != key:
            raise HostKeyError(
                f"the host key of {name} has changed: known is {known.get_name()} {fingerprint(known)}, it came with"
                f" {key.get_name()} {fingerprint(key)}; it is another machine, or its system was installed anew: if you"
                f" know why, remove the line of {name} from {path} and set the board up again"
            )

    def _keep(self, name: str, key: paramiko.PKey) -> None:
        with folder_locked(self._own.parent, f"changes {self._own}"):
            before = self._own.read_bytes() if self._own.exists() else b""
            write_atomic(self._own, before + f"{name} {key.get_name()} {key.get_base64()}\n".encode())


def _complaint(path: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{path} cannot be read: {error.strerror}"
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            text = line.decode().strip()
            if text and not text.startswith("#"):
                paramiko.hostkeys.HostKeyEntry.from_line(text)
        except (UnicodeDecodeError, paramiko.hostkeys.InvalidHostKey):
            return f"{path} cannot be read, line {number}: that is no host key; correct that line"
        except paramiko.SSHException:
            continue  # of a kind that is left out, not one that is damaged
    return f"{path} cannot be read: {error}"
