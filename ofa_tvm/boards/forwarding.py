"""Ports that lead through an SSH connection: bytes are copied between sockets and channels, each in its own pace."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import paramiko

from ofa_tvm.measurement.loopback import LOOPBACK

BLOCK_BYTES = 1 << 16
CONNECT_LIMIT_S = 10.0
CLOSE_POLL_S = 0.2


class Bridges:
    """Connections being copied; closing it closes them all."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def start(self, connection: socket.socket, channel: paramiko.Channel) -> None:
        """Copy both ways until both sides have ended, on threads of their own."""
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(connection)
        threading.Thread(target=self._run, args=(connection, channel), name="bridge", daemon=True).start()

    def close(self) -> None:
        """End every one of them."""
        with self._lock:
            for connection in self._open:
                _shut(connection, socket.SHUT_RDWR)

    def __len__(self) -> int:
        return len(self._open)

    def _run(self, connection: socket.socket, channel: paramiko.Channel) -> None:
        sending = threading.Thread(target=_send, args=(connection, channel), name="bridge sending", daemon=True)
        sending.start()
        try:
            _receive(channel, connection)
            # The other direction may go on for long, unless the board has closed the whole channel.
            while sending.is_alive() and not channel.closed:
                sending.join(CLOSE_POLL_S)
        finally:
            _shut(connection, socket.SHUT_RDWR)
            channel.close()
            sending.join()  # both ends are closed: nothing can hold it
            with self._lock:
                self._open.discard(connection)
            connection.close()


def _send(connection: socket.socket, channel: paramiko.Channel) -> None:
    try:
        while block := connection.recv(BLOCK_BYTES):
            channel.sendall(block)
        channel.shutdown_write()
    except (OSError, EOFError, paramiko.SSHException):
        channel.close()


def _receive(channel: paramiko.Channel, connection: socket.socket) -> None:
    try:
        while block := channel.recv(BLOCK_BYTES):
            connection.sendall(block)
        _shut(connection, socket.SHUT_WR)
    except (OSError, EOFError, paramiko.SSHException):
        channel.close()


def _shut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # it was closed by its other end
        connection.shutdown(how)


class ForwardingToHost:
    """A port on the board's loopback that leads to an address here."""

    def __init__(self, transport: paramiko.Transport, board_port: int, destination: tuple[str, int]) -> None:
        """Ask the board's SSH server for the port; 0 is any free one.

        Raises
        ------
        paramiko.SSHException
            The SSH server refuses: the port is taken, or it forwards none.
        """
        self._destination = destination
        self._bridges = Bridges()
        self.port = transport.request_port_forward(LOOPBACK, board_port, self._accept)

    def close(self) -> None:
        """End the connections; the port goes with the SSH connection."""
        self._bridges.close()

    def _accept(self, channel: paramiko.Channel, _origin: object, _server: object) -> None:
        """Called by the thread that reads the SSH connection, which must not wait for anything."""
        threading.Thread(target=self._connect, args=(channel,), name="forwarding to host", daemon=True).start()

    def _connect(self, channel: paramiko.Channel) -> None:
        try:
            connection = socket.create_connection(self._destination, timeout=CONNECT_LIMIT_S)
        except OSError:
            channel.close()
            return
        self._bridges.start(connection, channel)


class ForwardingToBoard:
    """A listening socket here that leads to a port on the board's loopback, over whatever transport there is now."""

    def __init__(self, listener: socket.socket, board_port: int, say: Callable[[str], None]) -> None:
        self._listener, self._board_port, self._say = listener, board_port, say
        self._bridges = Bridges()
        self.transport: paramiko.Transport | None = None
        self._closing = False
        threading.Thread(target=self._accept, name="forwarding to board", daemon=True).start()

    def close(self) -> None:
        """Listen no more, and end the connections."""
        self._closing = True
        _shut(self._listener, socket.SHUT_RDWR)  # wakes the thread in accept
        self._listener.close()
        self._bridges.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, origin = self._listener.accept()
            except OSError:
                return
            threading.Thread(
                target=self._connect, args=(connection, origin), name="forwarding to board", daemon=True
            ).start()

    def _connect(self, connection: socket.socket, origin: tuple[str, int]) -> None:
        transport, destination = self.transport, (LOOPBACK, self._board_port)
        try:
            if transport is None:
                raise paramiko.SSHException("the board is not connected")
            channel = transport.open_channel("direct-tcpip", destination, origin, timeout=CONNECT_LIMIT_S)
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._say(f"connection to port {self._board_port} of the board failed: {error}")
            connection.close()
            return
        self._bridges.start(connection, channel)
