"""Is the board the one it was? Its SSH host key against what is known, before anything is sent to it."""

from __future__ import annotations

import re
from pathlib import Path

import paramiko

from ofa_tvm.boards.known_hosts import KnownHost, known_hosts
from ofa_tvm.boards.ssh_config import ssh_folder
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
        self._files = [own, users or ssh_folder() / "known_hosts"]

    def algorithms(self, name: str, offered: tuple[str, ...]) -> list[str]:
        """The algorithms to ask the board for, those first of which its key is known."""
        known_lines, _, _ = self._known(name)
        keys = dict.fromkeys(line.key.get_name() for line in known_lines if line.key)
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
            The key is unknown and not the accepted one, or another key is known, or it is revoked.
        """
        keys, revoked, damaged = self._known(name)
        for line in revoked:
            if line.key == key:
                raise HostKeyError(
                    f"the host key of {name}, {key.get_name()} {fingerprint(key)}, is revoked ({line}): whoever has it"
                    " may be somebody else; nothing was sent there; give the board new host keys"
                )
        if keys:
            self._compare(name, key, keys)
            return
        if accept is None:
            left_out = f" ({damaged[0]}: that is no host key)" if damaged else ""
            raise HostKeyError(
                f"the host key of {name} is unknown{left_out}: {key.get_name()} {fingerprint(key)}; compare it with"
                " what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` (or its type's) prints on the board, then add"
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

    def _known(self, name: str) -> tuple[list[KnownHost], list[KnownHost], list[KnownHost]]:
        """The host's keys, out of the first file that has one; those revoked anywhere; damaged lines."""
        known: list[KnownHost] = []
        revoked: list[KnownHost] = []
        damaged: list[KnownHost] = []
        for path in self._files:
            of_file: list[KnownHost] = []
            for line in known_hosts(path, name):
                if line.key is None:
                    damaged.append(line)
                elif line.revoked:
                    revoked.append(line)
                else:
                    of_file.append(line)
            known = known or of_file
        return known, revoked, damaged

    @staticmethod
    def _compare(name: str, key: paramiko.PKey, keys: list[KnownHost]) -> None:
        if any(line.key == key for line in keys):  # a host may have several of a type, as behind one name
            return
        line = next((line for line in keys if line.key and line.key.get_name() == key.get_name()), keys[0])
        if line.key is not None:
            raise HostKeyError(
                f"the host key of {name} has changed: known is {line.key.get_name()} {fingerprint(line.key)}, it came"
                f" with {key.get_name()} {fingerprint(key)}; it is another machine, or its system was installed anew:"
                f" if you know why, remove the line of {name} from {line.path} and set the board up again"
            )

    def _keep(self, name: str, key: paramiko.PKey) -> None:
        with folder_locked(self._own.parent, f"changes {self._own}"):
            before = self._own.read_bytes() if self._own.exists() else b""
            write_atomic(self._own, before + f"{name} {key.get_name()} {key.get_base64()}\n".encode())
