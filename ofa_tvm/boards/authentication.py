"""Showing a board the user's keys, one after the other; what it makes of them is told in a line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import paramiko

from ofa_tvm.boards.address import SshAddress
from ofa_tvm.boards.keys import KeyChain
from ofa_tvm.errors import BoardUnreachableError


class Authentication:
    """What `paramiko.SSHClient.connect` takes as its ``auth_strategy``."""

    def __init__(self, address: SshAddress, chain: KeyChain) -> None:
        self._address, self._chain = address, chain

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        """Log in with the first key that opens.

        Raises
        ------
        BoardUnreachableError
            None does, or the board wants something else.
        """
        with contextlib.closing(self._chain.in_order()) as keys:
            self._try(transport, keys)
        return []

    def _try(self, transport: paramiko.Transport, keys: Iterable[paramiko.PKey]) -> None:
        tried = 0
        for key in keys:
            try:
                further = transport.auth_publickey(self._address.user, key)
            except paramiko.BadAuthenticationType as error:
                raise BoardUnreachableError(
                    f"{self._address} takes no SSH keys, but only {', '.join(error.allowed_types)}; allow them on the"
                    " board with PubkeyAuthentication yes in /etc/ssh/sshd_config"
                ) from error
            except (paramiko.SSHException, EOFError, OSError) as error:  # or the agent does not sign with it
                tried += 1
                if not transport.is_active():
                    raise BoardUnreachableError(self._hung_up(tried)) from error
                continue
            if further:
                raise BoardUnreachableError(
                    f"{self._address} wants {' and '.join(further)} besides a key; boards are reached with a key alone"
                )
            return
        raise BoardUnreachableError(self._refused())

    def _hung_up(self, tried: int) -> str:
        advice = (
            "name the one that it knows: --identity FILE, which is then the only one offered, or IdentityFile and"
            " IdentitiesOnly yes in ~/.ssh/config"
        )
        if tried == 1:
            return f"{self._address} hung up at the first key; its log says why: journalctl -u ssh"
        return f"{self._address} hung up after {tried} keys, more than it lets one try (MaxAuthTries); {advice}"

    def _refused(self) -> str:
        address, identity = self._address, self._chain.identity
        if locked := self._chain.locked:
            return f"the SSH key {locked} has a passphrase; give it to your agent: ssh-add {locked}" + self._agent()
        key = f"the key {identity}" if identity else "any key of your SSH agent or ~/.ssh"
        copy = f"ssh-copy-id -p {address.port}" + (f" -i {identity}" if identity else "")
        return f"{address} does not accept {key}; put yours there: {copy} {address.user}@{address.host}" + self._agent()

    def _agent(self) -> str:
        trouble = self._chain.agent_trouble
        return f" ({trouble})" if trouble else ""
