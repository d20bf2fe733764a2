"""Where a board is reached over SSH."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ofa_tvm.errors import UsageError
from ofa_tvm.homes import user_name

SSH_PORT = 22
_SHAPE = re.compile(
    r"(?:(?P<user>\w[\w.-]*)@)?(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>\w[\w.-]*))(?::(?P<port>\d+))?"
)


@dataclass(frozen=True, slots=True)
class SshAddress:
    """User, host and port of a board's SSH server."""

    user: str
    host: str
    port: int = SSH_PORT

    @classmethod
    def parse(cls, text: str) -> SshAddress:
        """From ``[user@]host[:port]``, an IPv6 address in brackets; without a user it is the current one, as with ssh.

        Raises
        ------
        UsageError
            The text is nothing of the kind.
        """
        match = _SHAPE.fullmatch(text)
        port = int(match["port"] or SSH_PORT) if match else 0
        if match is None or not 0 < port < 65536:
            raise UsageError(
                f"{text!r} is not [USER@]HOST[:PORT], such as pi@192.168.1.20 or pi@[fe80::1]:22;"
                " passwords have no place there: boards are reached with SSH keys"
            )
        user = match["user"] or user_name()
        if user is None:
            raise UsageError(f"{text!r} does not say as whom: your user id has no name here; give USER@HOST")
        return cls(user, match["ipv6"] or match["host"], port)

    @property
    def known_hosts_name(self) -> str:
        """How a known_hosts file names the host."""
        return self.host if self.port == SSH_PORT else f"[{self.host}]:{self.port}"

    @property
    def ssh_command(self) -> str:
        """What to type to get there by hand."""
        port = "" if self.port == SSH_PORT else f"-p {self.port} "
        return f"ssh {port}{self.user}@{self.host}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + ("" if self.port == SSH_PORT else f":{self.port}")
