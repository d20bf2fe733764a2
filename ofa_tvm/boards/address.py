"""Where a board is reached over SSH."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ofa_tvm.addresses import bracketed_host, split_address
from ofa_tvm.boards.ssh_config import host_settings
from ofa_tvm.errors import UsageError
from ofa_tvm.homes import user_name

SSH_PORT = 22
_USER = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class SshAddress:
    """User, host and port of a board's SSH server; the host may be one that ``~/.ssh/config`` has a name for."""

    user: str
    host: str
    port: int = SSH_PORT

    @classmethod
    def parse(cls, text: str) -> SshAddress:
        """From ``[user@]host[:port]``, an IPv6 address in brackets before a port.

        A user or port that is left out is that of ``~/.ssh/config``, else the current user and 22, as with ssh.

        Raises
        ------
        UsageError
            The text is nothing of the kind, or the file can't be read.
        """
        user, at, rest = text.rpartition("@")
        try:
            if at and not _USER.fullmatch(user):
                raise ValueError(f"{user.partition(':')[0]!r} is no user")
            host, port = split_address(rest)
        except ValueError as error:
            raise UsageError(
                f"{text!r} is not [USER@]HOST[:PORT], such as pi@192.168.1.20 or pi@[fe80::1%eth0]:22 ({error});"
                " passwords have no place there: boards are reached with SSH keys"
            ) from None
        configured = host_settings(host)
        user = user or configured.user or user_name() or ""
        if not user:  # as in a container whose user id is a number alone
            raise UsageError(f"{text!r} does not say as whom: your user id has no name here; give USER@HOST")
        return cls(user, host, port or configured.port or SSH_PORT)

    @property
    def known_hosts_name(self) -> str:
        """How a known_hosts file names the host, where it really is."""
        return known_hosts_name(host_settings(self.host, self.user, self.port).hostname, self.port)

    @property
    def ssh_command(self) -> str:
        """What to type to get there by hand."""
        port = "" if self.port == SSH_PORT else f"-p {self.port} "
        return f"ssh {port}{self.user}@{self.host}"

    def __str__(self) -> str:
        return f"{self.user}@{bracketed_host(self.host)}" + ("" if self.port == SSH_PORT else f":{self.port}")


def known_hosts_name(host: str, port: int) -> str:
    """How a known_hosts file names a host."""
    return host if port == SSH_PORT else f"[{host}]:{port}"
