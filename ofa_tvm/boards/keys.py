"""The user's SSH keys, in the order in which they are offered to a board: none is asked for a passphrase here."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import socket
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType

from ofa_tvm.boards.ssh_config import HostSettings, ssh_folder
from ofa_tvm.errors import BoardUnreachableError

AGENT_LIMIT_S = 10.0
DEFAULT_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")
_OPENSSH_MAGIC = b"openssh-key-v1\0"


@dataclass(slots=True)
class KeyChain:
    """The keys for one login, and why some could not be offered.

    Attributes
    ----------
    identity
        The only one to be offered, where the user names one.
    locked
        A key that has a passphrase and is not in the agent.
    agent_trouble
        Why the agent, which there should be, gave none.
    """

    identity: Path | None
    settings: HostSettings
    locked: Path | None = None
    agent_trouble: str | None = None
    _agents: list[paramiko.PKey] = field(default_factory=list)

    def in_order(self) -> Generator[paramiko.PKey]:
        """Those named first, then the agent's, then those that lie where ssh looks for them; each once.

        Raises
        ------
        BoardUnreachableError
            The key that the user named can't be read.
        """
        offered: set[bytes] = set()
        with self._agent():  # which signs for as long as its keys are used
            for key in self._all():
                if (blob := key.asbytes()) not in offered:
                    offered.add(blob)
                    yield key

    def _all(self) -> Iterator[paramiko.PKey]:
        if self.identity:
            yield from self._of(self.identity, must_be=True)
            return
        defaults = tuple(ssh_folder() / name for name in DEFAULT_NAMES)
        named = self.settings.identities or (defaults if self.settings.identities_only else ())
        for path in named:
            yield from self._of(path)
        if not self.settings.identities_only:
            yield from self._agents
        if not named:
            for path in defaults:
                yield from self._of(path)

    def _of(self, path: Path, *, must_be: bool = False) -> Iterator[paramiko.PKey]:
        """The key of a file, or the agent's if the file is locked or is only its public part."""
        public = _public_part(path)
        if public and (held := [key for key in self._agents if key.asbytes() == public]):
            yield from held
            return
        try:
            yield paramiko.PKey.from_path(path)
        except TypeError:  # its word for a passphrase that it was not given
            self.locked = self.locked or path
        except (OSError, ValueError, UnsupportedAlgorithm, paramiko.SSHException, UnknownKeyType) as error:
            if must_be:
                reason = getattr(error, "strerror", None) or "it is no private key that is known here"
                raise BoardUnreachableError(
                    f"the SSH key {path} cannot be read: {reason[0].lower()}{reason[1:]}"
                ) from error

    @contextlib.contextmanager
    def _agent(self) -> Iterator[None]:
        path = os.environ.get("SSH_AUTH_SOCK")
        if not path:
            yield
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(AGENT_LIMIT_S)
            try:
                connection.connect(path)
                agent = paramiko.agent.AgentSSH()
                agent._connect(connection)  # type: ignore[attr-defined]  # its own way in has no time limit
                self._agents = list(agent.get_keys())
            except (OSError, ValueError, IndexError, TypeError, paramiko.SSHException) as error:
                reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
                self.agent_trouble = f"the SSH agent at {path} ($SSH_AUTH_SOCK) gives no keys: {reason}; try ssh-add -l"
            yield


def _public_part(path: Path) -> bytes | None:
    """What identifies a key: from the file beside it, from the file itself, or from its unlocked beginning."""
    for candidate in (path, path.with_name(f"{path.name}.pub")):
        with contextlib.suppress(OSError, ValueError, IndexError, binascii.Error):
            words = candidate.read_text().split()
            if words[0].startswith(("ssh-", "ecdsa-", "sk-")):
                return base64.b64decode(words[1], validate=True)
    with contextlib.suppress(OSError, ValueError, binascii.Error, paramiko.SSHException):
        lines = path.read_text().strip().splitlines()
        content = base64.b64decode("".join(lines[1:-1]), validate=True)
        if content.startswith(_OPENSSH_MAGIC):
            message = paramiko.Message(content[len(_OPENSSH_MAGIC) :])
            for _ in range(3):  # cipher, and how its key is derived
                message.get_string()
            return message.get_string() if message.get_int() == 1 else None
    return None
