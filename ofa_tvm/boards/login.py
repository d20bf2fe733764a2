"""Logging in to a board: its host key is checked first, and keys open the door, never a password.

The way there is the one that ssh would take: ``~/.ssh/config`` may give the host another name, and hosts to go through,
each of which is logged in to in the same manner.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko

from ofa_tvm.boards.address import SshAddress, known_hosts_name
from ofa_tvm.boards.authentication import Authentication
from ofa_tvm.boards.host_keys import KnownHosts, fingerprint
from ofa_tvm.boards.keys import KeyChain
from ofa_tvm.boards.ssh import SshConnection, one_line
from ofa_tvm.boards.ssh_config import HostSettings, host_settings
from ofa_tvm.errors import BoardUnreachableError, UsageError

CONNECT_LIMIT_S = 10.0
WINDOW_BYTES = 8 << 20
"""What may be under way on one stream without an answer."""
MOST_HOPS = 8

logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its errors reach the user as ours


def connect(
    address: SshAddress, *, known_hosts: Path, accept_fingerprint: str | None = None, identity: Path | None = None
) -> SshConnection:
    """Connect with the key in `identity`, or those of ``~/.ssh/config``, of the SSH agent and of ``~/.ssh``.

    Raises
    ------
    HostKeyError
        The host key of the board, or of a host on the way, is unknown and not the accepted one, or it has changed.
    BoardUnreachableError
        Nobody answers there, or it does not let us in.
    UsageError
        ``~/.ssh/config`` can't be read, or leads nowhere.
    """
    way = _Way(KnownHosts(known_hosts), accept_fingerprint, identity)
    try:
        way.go_to(address)
    except BaseException:
        way.close()
        raise
    return SshConnection(address, way.clients[-1], via=tuple(way.clients[:-1]))


@dataclass(slots=True)
class _Way:
    """The hosts that we are logged in to, each through the one before; the last is the board."""

    hosts: KnownHosts
    accept: str | None
    identity: Path | None
    clients: list[paramiko.SSHClient] = field(default_factory=list)

    def go_to(self, address: SshAddress) -> None:
        settings = host_settings(address.host, address.user, address.port)
        self._jump(address, settings.jumps, MOST_HOPS)
        self._log_in(address, settings, self.accept, self.identity)

    def close(self) -> None:
        for client in reversed(self.clients):
            client.close()

    def _jump(self, address: SshAddress, jumps: tuple[str, ...], hops_left: int) -> None:
        """Log in to each host before an address; the first of them may have others before it."""
        for number, text in enumerate(jumps):
            if not hops_left:
                raise UsageError(f"ProxyJump of ~/.ssh/config never comes to {address}: over {MOST_HOPS} hosts")
            hop = SshAddress.parse(text.removeprefix("ssh://").rstrip("/"))
            settings = host_settings(hop.host, hop.user, hop.port)
            if number == 0:
                self._jump(hop, settings.jumps, hops_left - 1)
            key = self._log_in(hop, settings, None, None, also_accepted=self.accept)
            if self.accept and self.accept.rstrip("=") == fingerprint(key):
                self.accept = None  # it was meant for this host, not for the board

    def _log_in(
        self,
        address: SshAddress,
        settings: HostSettings,
        accept: str | None,
        identity: Path | None,
        also_accepted: str | None = None,
    ) -> paramiko.PKey:
        stream = self._stream(address, settings)
        client = paramiko.SSHClient()
        self.clients.append(client)
        name = known_hosts_name(settings.hostname, address.port)

        def transport(sock: socket.socket, **options: Any) -> paramiko.Transport:
            transport = paramiko.Transport(sock, WINDOW_BYTES, **options)
            security = transport.get_security_options()
            security.key_types = self.hosts.algorithms(name, tuple(security.key_types))
            return transport

        client.set_missing_host_key_policy(_Checked(self.hosts, name, accept, also_accepted))
        try:
            client.connect(
                settings.hostname,
                address.port,
                address.user,
                sock=stream,
                timeout=CONNECT_LIMIT_S,
                banner_timeout=CONNECT_LIMIT_S,
                auth_timeout=CONNECT_LIMIT_S,
                channel_timeout=CONNECT_LIMIT_S,
                transport_factory=transport,  # type: ignore[arg-type]
                auth_strategy=Authentication(address, KeyChain(identity, settings)),  # type: ignore[arg-type]
            )
        except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
            stream.close()
            raise BoardUnreachableError(
                f"{address} does not talk SSH as it should ({one_line(error)}); try: {address.ssh_command}"
            ) from error
        except BaseException:
            stream.close()
            raise
        opened = client.get_transport()
        assert opened is not None
        return opened.get_remote_server_key()

    def _stream(self, address: SshAddress, settings: HostSettings) -> Any:
        if self.clients:
            return self._through_last(address, settings.hostname)
        if settings.proxy_command:
            try:
                return paramiko.ProxyCommand(settings.proxy_command)
            except (OSError, ValueError) as error:
                raise BoardUnreachableError(
                    f"ProxyCommand {settings.proxy_command!r} of ~/.ssh/config cannot be run: {one_line(error)}"
                ) from error
        return _tcp_connection(settings.hostname, address.port)

    def _through_last(self, address: SshAddress, host: str) -> paramiko.Channel:
        transport = self.clients[-1].get_transport()
        assert transport is not None
        try:
            return transport.open_channel(
                "direct-tcpip", (host, address.port), ("127.0.0.1", 0), timeout=CONNECT_LIMIT_S
            )
        except (paramiko.SSHException, OSError, EOFError) as error:
            reason = error.text if isinstance(error, paramiko.ChannelException) else one_line(error)
            raise BoardUnreachableError(
                f"the host before {address} (ProxyJump of ~/.ssh/config) does not lead there ({reason}); is the board"
                f" on? does that host forward connections (AllowTcpForwarding yes)? try: {address.ssh_command}"
            ) from error


def _tcp_connection(host: str, port: int) -> socket.socket:
    try:
        stream = socket.create_connection((host, port), timeout=CONNECT_LIMIT_S)
    except ConnectionRefusedError as error:
        raise BoardUnreachableError(
            f"{host} refuses connections to port {port}: no SSH server runs there; start it on"
            " the board (sudo systemctl enable --now ssh), or name its port: HOST:PORT"
        ) from error
    except (socket.gaierror, UnicodeError) as error:
        raise BoardUnreachableError(f"no host {host!r} is known; check the name, or give an address") from error
    except TimeoutError as error:
        raise BoardUnreachableError(
            f"{host} did not answer within {CONNECT_LIMIT_S:.0f} s; is the board on and at this address?"
        ) from error
    except OSError as error:
        raise BoardUnreachableError(
            f"{host} cannot be reached ({one_line(error)}); is the board on and in this network?"
        ) from error
    # The messages of RPC are small and wait for each other: none may be held back to be sent with the next.
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


class _Checked(paramiko.MissingHostKeyPolicy):
    """To paramiko every host is unknown; `KnownHosts` decides.

    A fingerprint that the user accepts is the board's, or that of a host on the way, if it is the same.
    """

    def __init__(self, hosts: KnownHosts, name: str, accept: str | None, also_accepted: str | None) -> None:
        self._hosts, self._name, self._accept, self._also = hosts, name, accept, also_accepted

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        accept = self._also if self._also and self._also.rstrip("=") == fingerprint(key) else self._accept
        self._hosts.check(self._name, key, accept)
