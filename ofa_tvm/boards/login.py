"""Logging in to a board: its host key is checked first, and keys open the door, never a password."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import paramiko

from ofa_tvm.boards.address import SshAddress
from ofa_tvm.boards.host_keys import KnownHosts
from ofa_tvm.boards.ssh import SshConnection, one_line
from ofa_tvm.errors import BoardUnreachableError

CONNECT_LIMIT_S = 10.0
WINDOW_BYTES = 8 << 20
"""What may be under way on one stream without an answer."""

logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its errors reach the user as ours


def connect(
    address: SshAddress, *, known_hosts: Path, accept_fingerprint: str | None = None, identity: Path | None = None
) -> SshConnection:
    """Connect with the key in `identity`, or those of the SSH agent and of ``~/.ssh``.

    Raises
    ------
    HostKeyError
        The board's host key is unknown and is not the accepted one, or it has changed.
    BoardUnreachableError
        Nobody answers there, or it does not let us in.
    """
    stream = _tcp_connection(address)
    client = paramiko.SSHClient()
    try:
        _log_in(client, stream, address, KnownHosts(known_hosts), accept_fingerprint, identity)
        return SshConnection(address, client)
    except BaseException as error:
        client.close()
        stream.close()
        if isinstance(error, paramiko.SSHException | OSError | EOFError | ValueError):
            raise BoardUnreachableError(_refusal(address, error, identity)) from error
        raise


def _tcp_connection(address: SshAddress) -> socket.socket:
    try:
        stream = socket.create_connection((address.host, address.port), timeout=CONNECT_LIMIT_S)
    except ConnectionRefusedError as error:
        raise BoardUnreachableError(
            f"{address.host} refuses connections to port {address.port}: no SSH server runs there; start it on"
            " the board (sudo systemctl enable --now ssh), or name its port: HOST:PORT"
        ) from error
    except socket.gaierror as error:
        raise BoardUnreachableError(f"no host {address.host!r} is known; check the name, or give an address") from error
    except TimeoutError as error:
        raise BoardUnreachableError(
            f"{address.host} did not answer within {CONNECT_LIMIT_S:.0f} s; is the board on and at this address?"
        ) from error
    except OSError as error:
        raise BoardUnreachableError(
            f"{address.host} cannot be reached ({one_line(error)}); is the board on and in this network?"
        ) from error
    # The messages of RPC are small and wait for each other: none may be held back to be sent with the next.
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def _log_in(
    client: paramiko.SSHClient,
    stream: socket.socket,
    address: SshAddress,
    hosts: KnownHosts,
    accept: str | None,
    identity: Path | None,
) -> None:
    def transport(sock: socket.socket, **options: Any) -> paramiko.Transport:
        transport = paramiko.Transport(sock, WINDOW_BYTES, **options)
        security = transport.get_security_options()
        security.key_types = hosts.algorithms(address.known_hosts_name, tuple(security.key_types))
        return transport

    client.set_missing_host_key_policy(_Checked(hosts, address, accept))
    client.connect(
        address.host,
        address.port,
        address.user,
        sock=stream,
        key_filename=str(identity) if identity else None,
        look_for_keys=identity is None,
        timeout=CONNECT_LIMIT_S,
        banner_timeout=CONNECT_LIMIT_S,
        auth_timeout=CONNECT_LIMIT_S,
        channel_timeout=CONNECT_LIMIT_S,
        transport_factory=transport,  # type: ignore[arg-type]
    )


def _refusal(address: SshAddress, error: Exception, identity: Path | None) -> str:
    if isinstance(error, paramiko.PasswordRequiredException):
        key = f"the SSH key {identity}" if identity else "an SSH key in ~/.ssh"
        return f"{key} has a passphrase; give it to your agent: ssh-add {identity or ''}".rstrip()
    if isinstance(error, FileNotFoundError | PermissionError | ValueError) or "private key file" in str(error):
        return f"the SSH key {identity} cannot be read: {one_line(error)}"
    if isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in str(error):
        key = f"the key {identity}" if identity else "any key of your SSH agent or ~/.ssh"
        copy = f"ssh-copy-id -p {address.port}" + (f" -i {identity}" if identity else "")
        return f"{address} does not accept {key}; put yours there: {copy} {address.user}@{address.host}"
    return f"{address} does not talk SSH as it should ({one_line(error)}); try: {address.ssh_command}"


class _Checked(paramiko.MissingHostKeyPolicy):
    """To paramiko every host is unknown; `KnownHosts` decides."""

    def __init__(self, hosts: KnownHosts, address: SshAddress, accept: str | None) -> None:
        self._hosts, self._address, self._accept = hosts, address, accept

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        self._hosts.check(self._address.known_hosts_name, key, self._accept)
